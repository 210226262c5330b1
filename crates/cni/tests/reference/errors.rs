//! Calls that are wrong, for each plugin: the same numbers, nothing changed.

use serde_json::json;

use super::case::{Case, Step, ranges};
use super::compare::check;
use Step::{Add, Check, Del, Status, Version};

const V4: &str = "10.77.0.0/24";
const PLUGINS: [&str; 4] = ["bridge", "ptp", "host-local", "loopback"];

/// A case for each plugin.
fn each(name: &str, change: impl Fn(Case) -> Case) -> Vec<Case> {
    let case = |plugin: &&str| {
        let config = json!({"type": *plugin, "ipam": ranges(&[V4])});
        change(Case::new(&format!("{plugin} {name}"), plugin, config).apart())
    };
    PLUGINS.iter().map(case).collect()
}

fn texts(name: &str, text: &'static str) -> Vec<Case> {
    each(name, |case| case.text(text))
}

#[test]
fn environments() {
    let set = |name: &'static str, value: &'static str| {
        let label = format!("{name}={value}");
        each(&label, move |case| case.env(name, value).steps(&[Add(0), Check(0), Del(0)]))
    };
    let cases = [
        set("CNI_CONTAINERID", "-"),
        set("CNI_CONTAINERID", "a/b"),
        set("CNI_CONTAINERID", "_a"),
        set("CNI_CONTAINERID", "a b"),
        set("CNI_CONTAINERID", "a-b_c.d"),
        set("CNI_IFNAME", "-"),
        set("CNI_IFNAME", "a-name-too-long-"),
        set("CNI_IFNAME", "a/b"),
        set("CNI_IFNAME", "a:b"),
        set("CNI_IFNAME", ".."),
        set("CNI_IFNAME", "a b"),
        set("CNI_NETNS", "-"),
        set("CNI_NETNS", "/nowhere"),
        set("CNI_PATH", "-"),
        set("CNI_COMMAND", "-"),
        set("CNI_COMMAND", "add"),
        set("CNI_COMMAND", "EAT"),
    ];
    check(&cases.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn configurations() {
    let cases = [
        texts("nothing", ""),
        texts("white space", "  \n"),
        texts("rubbish", "rubbish"),
        texts("half", "{\"cniVersion\": \"1.1.0\", \"name\": \"net\""),
        texts("a list", "[]"),
        texts("null", "null"),
        texts("a number", "5"),
        texts("something behind", "{\"cniVersion\": \"1.1.0\", \"name\": \"net\"} x"),
        texts("no name", "{\"cniVersion\": \"1.1.0\", \"type\": \"x\"}"),
        texts("empty name", "{\"cniVersion\": \"1.1.0\", \"name\": \"\"}"),
        texts("name with a slash", "{\"cniVersion\": \"1.1.0\", \"name\": \"../net\"}"),
        texts("name with a blank", "{\"cniVersion\": \"1.1.0\", \"name\": \"my net\"}"),
        texts("name that is a number", "{\"cniVersion\": \"1.1.0\", \"name\": 5}"),
        texts("version that is a number", "{\"cniVersion\": 1.1, \"name\": \"net\"}"),
        each("type that is a number", |case| {
            case.text("{\"cniVersion\": \"1.1.0\", \"name\": \"net\", \"type\": 1}").steps(&[Add(0)])
        }),
        each("half a character", |case| {
            case.text("{\"cniVersion\": \"1.1.0\", \"name\": \"net\\ud800\"}")
                .rows(&["half a Unicode character in JSON"])
        }),
        texts("a key twice", "{\"cniVersion\": \"0.4.0\", \"cniVersion\": \"9.9.9\", \"name\": \"net\"}"),
        each("version 9", |case| case.versions(&["9.9.9"])),
    ];
    check(&cases.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn commands_by_version() {
    let status = |case: Case| case.versions(&["0.4.0", "1.0.0"]).steps(&[Status]);
    let cases = [
        each("VERSION", |case| case.versions(&["1.1.0"]).steps(&[Version])),
        each("VERSION with nothing", |case| case.text("").steps(&[Version])),
        each("VERSION with rubbish", |case| case.text("rubbish").steps(&[Version])),
        each("VERSION without a path", |case| case.env("CNI_PATH", "-").steps(&[Version])),
        each("STATUS before 1.1.0", status),
        each("STATUS", |case| case.steps(&[Status])),
        each("CHECK before 0.4.0", |case| case.versions(&["0.3.1"]).steps(&[Check(0)])),
    ];
    check(&cases.into_iter().flatten().collect::<Vec<_>>());
}
