//! Doing a case on both sides, step by step, and telling what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::{Case, Step, with};
use super::differences::{self, DIFFERENCES, Difference, When};
use super::older::{OLDER, peer};
use super::place::{Call, Place, Side};
use super::snapshot::{Snapshot, take};

/// How long the kernel may take until its state is what it is to be. It takes some milliseconds.
const SETTLE: Duration = Duration::from_secs(60);

/// How many differences of one step are told.
const MAX_LINES: usize = 20;

/// One way to do the steps: who adds, who does all else, whose IPAM plugin the adding one finds.
struct Lane {
    label: &'static str,
    add: Side,
    rest: Side,
    ipam: Side,
    place: Place,
    /// The results of ADD by pod.
    results: BTreeMap<usize, Value>,
    /// Whether an ADD failed.
    add_failed: bool,
    /// What the last step said.
    said: Value,
}

impl Lane {
    fn new(label: &'static str, sides: [Side; 3], case: &Case) -> Lane {
        let [add, rest, ipam] = sides;
        let place = Place::new(case.n_pods(), case.dad);
        for (path, content) in &case.files {
            place.write(path, content);
        }
        Lane { label, add, rest, ipam, place, results: BTreeMap::new(), add_failed: false, said: Value::Null }
    }

    fn call(&self, case: &Case, version: &str, command: &str, pod: Option<usize>) -> Value {
        let path = pod.map(|pod| self.place.paths[pod].clone()).unwrap_or_default();
        let side = if command == "ADD" { self.add } else { self.rest };
        let ipam = if side == self.add { self.ipam } else { self.rest };
        let mut env: BTreeMap<String, String> = [("CNI_COMMAND", command), ("CNI_NETNS", &path)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        if let Some(pod) = pod {
            env.insert("CNI_CONTAINERID".to_owned(), format!("pod{pod}"));
            env.insert("CNI_IFNAME".to_owned(), "eth0".to_owned());
        }
        for (name, value) in &case.env {
            match *value {
                "-" => env.remove(*name),
                value => env.insert((*name).to_owned(), value.replace("{dir}", &self.dir())),
            };
        }
        let call = Call { plugin: case.plugin.clone(), env, stdin: self.stdin(case, version, command, pod) };
        self.place.call(side, ipam, &call)
    }

    fn dir(&self) -> String {
        self.place.dir.path().to_string_lossy().into_owned()
    }

    fn stdin(&self, case: &Case, version: &str, command: &str, pod: Option<usize>) -> String {
        if let Some(text) = case.text {
            return text.replace("{dir}", &self.dir()).replace("VERSION", version);
        }
        let mut config = with(json!({"cniVersion": version, "name": "net"}), case.config.clone());
        // As libcni does it: from 0.4.0 on CHECK and DEL get what ADD said.
        let result = pod.and_then(|pod| self.results.get(&pod));
        if let Some(result) = result.filter(|_| command != "ADD" && version >= "0.4.0") {
            config["prevResult"] = result.clone();
        }
        config.to_string().replace("{dir}", &self.dir())
    }

    fn step(&mut self, case: &Case, version: &str, step: &Step) {
        self.said = match *step {
            Step::Add(pod) => {
                let said = self.call(case, version, "ADD", Some(pod));
                if said["exit of ADD"] == 0 {
                    self.results.insert(pod, said["stdout"].clone());
                } else {
                    self.add_failed = true;
                }
                said
            }
            Step::Check(pod) => self.call(case, version, "CHECK", Some(pod)),
            Step::Del(pod) => self.call(case, version, "DEL", Some(pod)),
            Step::DelWithout(pod) => {
                let without = case.clone().env("CNI_NETNS", "");
                self.call(&without, version, "DEL", Some(pod))
            }
            Step::Status => self.call(case, version, "STATUS", None),
            Step::Version => self.call(case, version, "VERSION", None),
            Step::Vanish(pod) => {
                self.place.pods[pod] = None;
                Value::Null
            }
            Step::Host(command) => {
                self.place.run(&self.place.namespace, command);
                Value::Null
            }
            Step::Pod(pod, command) => {
                self.place.run(&self.place.pod(pod).namespace, command);
                Value::Null
            }
        };
    }
}

/// One thing that is not the same.
pub struct Differing {
    pub place: String,
    pub reference: String,
    pub ours: String,
}

fn differing(reference: &Snapshot, ours: &Snapshot) -> Vec<Differing> {
    let value =
        |snapshot: &Snapshot, place: &str| snapshot.get(place).cloned().unwrap_or_else(|| "nothing".into());
    let one = |place: &String| Differing {
        place: place.clone(),
        reference: value(reference, place),
        ours: value(ours, place),
    };
    let places: BTreeSet<&String> = reference.keys().chain(ours.keys()).collect();
    let mut found: Vec<Differing> = places.into_iter().map(one).collect();
    found.retain(|one| one.reference != one.ours && one.place != "said.message");
    // Where one succeeded and the other didn't, nothing else is worth telling.
    if found.iter().any(|one| one.place.starts_with("said.exit")) {
        found.retain(|one| one.place.starts_with("said.exit"));
        return found;
    }
    // A link that only one side has is one difference, whatever is on it.
    let links: Vec<(String, String)> = found.iter().filter_map(|one| lone_link(&one.place)).collect();
    found.retain(|one| {
        !links.iter().any(|(owner, name)| {
            one.place.strip_prefix(owner.as_str()).is_some_and(|rest| {
                let of_link =
                    [format!(".link.{name}."), format!(".address.{name}"), ".sysctl.ipv".to_owned()];
                rest.starts_with(&of_link[0]) && rest != format!(".link.{name}.ifname")
                    || rest.starts_with(&of_link[1])
                    || rest.starts_with(&of_link[2]) && rest.contains(&format!("/conf/{name}/"))
                    || rest.starts_with(".route.") && rest.contains(&format!("\"dev\":\"{name}\""))
            })
        })
    });
    found
}

/// Owner and name of the link that a place says is there.
fn lone_link(place: &str) -> Option<(String, String)> {
    let (owner, rest) = place.split_once(".link.")?;
    Some((owner.to_owned(), rest.strip_suffix(".ifname")?.to_owned()))
}

/// What a case came to: what is wrong, and which rows of the table it showed.
struct Outcome {
    problems: Vec<String>,
    rows: BTreeSet<&'static str>,
}

fn lanes(case: &Case) -> Vec<Lane> {
    use Side::{Ours, Reference};
    let mut lanes = vec![Lane::new("reference", [Reference; 3], case), Lane::new("ours", [Ours; 3], case)];
    if case.crosswise {
        lanes.push(Lane::new("ADD by the reference, all else by ours", [Reference, Ours, Reference], case));
        lanes.push(Lane::new("ADD by ours, all else by the reference", [Ours, Reference, Ours], case));
    }
    if case.mixed {
        lanes.push(Lane::new("the reference with our IPAM plugin", [Reference, Reference, Ours], case));
    }
    lanes
}

fn run(case: &Case, version: &str) -> Outcome {
    let fixed = format!("{}{:?}{:?}", case.config, case.env, case.steps);
    let mut lanes = lanes(case);
    let mut outcome = Outcome { problems: Vec::new(), rows: BTreeSet::new() };
    for (number, step) in case.steps.iter().enumerate() {
        for lane in &mut lanes {
            lane.step(case, version, step);
        }
        let started = Instant::now();
        loop {
            let (unexplained, rows) = look(case, &lanes, &fixed);
            if unexplained.is_empty() || started.elapsed() > SETTLE {
                outcome.rows.extend(rows);
                let name = format!("{} {version}, step {number} {step:?}", case.name);
                outcome
                    .problems
                    .extend(unexplained.into_iter().take(MAX_LINES).map(|line| format!("{name}, {line}")));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if !outcome.problems.is_empty() {
            break;
        }
    }
    outcome
}

/// Compares every lane with the first: what no row of the table explains, and the rows that explain the rest.
fn look(case: &Case, lanes: &[Lane], fixed: &str) -> (Vec<String>, BTreeSet<&'static str>) {
    let mut unexplained = Vec::new();
    let mut rows = BTreeSet::new();
    let reference = take(&lanes[0].place, &lanes[0].said, fixed);
    for lane in &lanes[1..] {
        let snapshot = take(&lane.place, &lane.said, fixed);
        let of_lane = differing(&reference, &snapshot);
        let messages = [&lanes[0].said, &lane.said].map(|said| said["message"].as_str().unwrap_or_default());
        for one in of_lane {
            let older: &[Difference] = if peer().is_older() { OLDER } else { &[] };
            let row = DIFFERENCES.iter().chain(older).find(|row| {
                let may = match row.when {
                    When::Always => true,
                    When::Named => case.rows.contains(&row.name),
                    When::AddFailed => lanes[0].add_failed && lane.add_failed,
                };
                may && differences::explains(row, &one)
            });
            match row {
                Some(row) => {
                    rows.insert(row.name);
                }
                None => unexplained.push(format!(
                    "{}: {}: {} -> {} {messages:?}",
                    lane.label, one.place, one.reference, one.ours
                )),
            }
        }
    }
    (unexplained, rows)
}

/// Does all cases and fails with everything that differs and is in no row of the table, and with rows that a case is said
/// to show and doesn't.
#[track_caller]
pub fn check(cases: &[Case]) {
    let mut problems = Vec::new();
    let only = std::env::var("HOPWISE_CASE").ok();
    for case in cases.iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only))) {
        let mut seen = BTreeSet::new();
        let versions = peer().versions_for(case);
        for version in &versions {
            let outcome = run(case, version);
            problems.extend(outcome.problems);
            seen.extend(outcome.rows);
        }
        // An older one has some of the faults not yet.
        let shown = |row: &&&str| seen.contains(*row) || peer().is_older();
        for row in case.rows.iter().filter(|row| !shown(row)) {
            problems.push(format!("{}: shows nothing of the row {row:?}", case.name));
        }
    }
    assert!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.join("\n"));
}
