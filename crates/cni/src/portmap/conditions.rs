//! `conditionsV4` and `conditionsV6`: which packets a mapping is for, in the words of iptables or of nft.
//!
//! The reference hands them to `iptables` or `nft` as they are. Here they are understood, or refused before anything is
//! changed: source and destination addresses, the link that a packet came in by, its mark.

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;

use crate::spec::{CniError, Code};

/// What of a packet is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The source address lies in a network.
    Source(Cidr),
    /// The destination address lies in a network.
    Destination(Cidr),
    /// The packet came in by a link of this name.
    Input(String),
    /// The packet came in by a link whose name starts like this.
    InputPrefix(String),
    /// The mark under a mask is this.
    Mark {
        /// The bits that count.
        mask: u32,
        /// What they are.
        value: u32,
    },
}

/// A test, and whether it has to hold or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The test.
    pub test: Test,
    /// Whether it has to hold.
    pub holds: bool,
}

/// Rules that stand for the conditions at most.
const MAX_ALTERNATIVES: usize = 64;

/// Reads conditions. A packet must meet all conditions of any of the lists that are returned; without conditions there is
/// one, empty.
///
/// # Errors
///
/// [`Code::UnsupportedField`] for what is not understood; the message names field and word.
pub fn parse(field: &str, family: Family, items: &[String]) -> Result<Vec<Vec<Condition>>, CniError> {
    let is_iptables = is_iptables(items);
    let words = if is_iptables { split(items, "") } else { split(items, "{},") };
    let mut words = Words { field, family, rest: &words };
    let mut alternatives = vec![Vec::new()];
    while !words.rest.is_empty() {
        let any = if is_iptables { words.iptables()? } else { words.nft()? };
        // No test at all: a match without a condition, such as a comment.
        if !any.is_empty() {
            alternatives = product(&alternatives, &any);
        }
        if alternatives.len() > MAX_ALTERNATIVES {
            let n = alternatives.len();
            return Err(words.refused(&format!("stand for {n} rules, more than {MAX_ALTERNATIVES}")));
        }
    }
    Ok(alternatives)
}

/// Whether conditions are in the words of iptables: no condition of nft starts like this.
pub fn is_iptables(items: &[String]) -> bool {
    items.first().is_some_and(|first| first.starts_with(['-', '!']))
}

/// All of one list together with all of one of the others: each of `all` with each of `any`.
fn product(all: &[Vec<Condition>], any: &[Vec<Condition>]) -> Vec<Vec<Condition>> {
    all.iter().flat_map(|one| any.iter().map(move |other| [&one[..], &other[..]].concat())).collect()
}

/// The words of all items; each of the marks is a word of its own.
fn split(items: &[String], marks: &str) -> Vec<String> {
    let mut words = Vec::new();
    for item in items.iter().flat_map(|item| item.split_whitespace()) {
        let mut rest = item;
        while let Some(at) = rest.find(|c| marks.contains(c)) {
            words.extend((at > 0).then(|| rest[..at].to_owned()));
            words.push(rest[at..=at].to_owned());
            rest = &rest[at + 1..];
        }
        words.extend((!rest.is_empty()).then(|| rest.to_owned()));
    }
    words
}

struct Words<'a> {
    field: &'a str,
    family: Family,
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn refused(&self, problem: &str) -> CniError {
        CniError::new(Code::UnsupportedField, format!("{}: the conditions {problem}", self.field)).details(
            "understood are -s, -d, -i and -m mark --mark of iptables, each with or without !, and ip saddr, ip daddr \
             (ip6), iifname and meta mark of nft, each with == or !=",
        )
    }

    fn unknown(&self, word: &str) -> CniError {
        self.refused(&format!("have {word:?}, which is not understood"))
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn value(&mut self, of: &str) -> Result<&'a str, CniError> {
        self.next().ok_or_else(|| self.refused(&format!("end after {of:?}, where a value is missing")))
    }

    fn next_is(&mut self, wanted: &[&str]) -> bool {
        let found = self.rest.first().is_some_and(|word| wanted.contains(&word.as_str()));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// One option of iptables: the lists of conditions of which one has to be met.
    fn iptables(&mut self) -> Result<Vec<Vec<Condition>>, CniError> {
        let holds = !self.next_is(&["!"]);
        let option = self.value("!")?;
        match option {
            "-s" | "--source" | "--src" => self.networks(option, Test::Source, holds),
            "-d" | "--destination" | "--dst" => self.networks(option, Test::Destination, holds),
            "-i" | "--in-interface" => {
                let test = self.link(option, '+')?;
                Ok(vec![vec![Condition { test, holds }]])
            }
            "-m" | "--match" if holds => match self.value(option)? {
                "mark" | "comment" => Ok(Vec::new()),
                other => Err(self.unknown(&format!("-m {other}"))),
            },
            "--comment" if holds => self.value(option).map(|_| Vec::new()),
            "--mark" => {
                let text = self.value(option)?;
                let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
                let test = Test::Mark { mask: self.number(mask)?, value: self.number(value)? };
                Ok(vec![vec![Condition { test, holds }]])
            }
            other => Err(self.unknown(other)),
        }
    }

    /// The networks of an option: one of them, or if it must not hold none of them.
    fn networks(
        &mut self,
        option: &str,
        test: fn(Cidr) -> Test,
        holds: bool,
    ) -> Result<Vec<Vec<Condition>>, CniError> {
        let text = self.value(option)?;
        let tests: Result<Vec<Test>, CniError> =
            text.split(',').map(|network| self.network(network).map(test)).collect();
        Ok(any_of(tests?, holds))
    }

    /// One expression of nft.
    fn nft(&mut self) -> Result<Vec<Vec<Condition>>, CniError> {
        let first = self.value("")?;
        let own = if self.family == Family::V4 { "ip" } else { "ip6" };
        let test: fn(&Words<'a>, &str) -> Result<Test, CniError> = match first {
            _ if first == own => match self.value(first)? {
                "saddr" => |words, text| words.network(text).map(Test::Source),
                "daddr" => |words, text| words.network(text).map(Test::Destination),
                other => return Err(self.unknown(&format!("{first} {other}"))),
            },
            "iifname" => |words, text| words.named(text, '*'),
            "mark" => return self.nft_mark(),
            "meta" => match self.value(first)? {
                "iifname" => |words, text| words.named(text, '*'),
                "mark" => return self.nft_mark(),
                other => return Err(self.unknown(&format!("meta {other}"))),
            },
            other => return Err(self.unknown(other)),
        };
        let holds = self.operator();
        let texts = self.nft_values()?;
        let tests: Result<Vec<Test>, CniError> = texts.into_iter().map(|text| test(self, text)).collect();
        Ok(any_of(tests?, holds))
    }

    fn operator(&mut self) -> bool {
        let holds = !self.next_is(&["!=", "ne"]);
        if holds {
            self.next_is(&["==", "eq"]);
        }
        holds
    }

    /// A value, or several in braces.
    fn nft_values(&mut self) -> Result<Vec<&'a str>, CniError> {
        if !self.next_is(&["{"]) {
            return Ok(vec![self.value("the operator")?]);
        }
        let mut values = Vec::new();
        loop {
            match self.value("{")? {
                "}" => return Ok(values),
                "," => {}
                value => values.push(value),
            }
        }
    }

    fn nft_mark(&mut self) -> Result<Vec<Vec<Condition>>, CniError> {
        let mask = if self.next_is(&["&", "and"]) {
            let text = self.value("&")?;
            self.number(text)?
        } else {
            u32::MAX
        };
        let holds = self.operator();
        let texts = self.nft_values()?;
        let tests: Result<Vec<Test>, CniError> =
            texts.into_iter().map(|text| self.number(text).map(|value| Test::Mark { mask, value })).collect();
        Ok(any_of(tests?, holds))
    }

    fn link(&mut self, option: &str, wildcard: char) -> Result<Test, CniError> {
        let name = self.value(option)?;
        self.named(name, wildcard)
    }

    fn named(&self, text: &str, wildcard: char) -> Result<Test, CniError> {
        let name = text.trim_matches('"');
        let prefix = name.strip_suffix(wildcard);
        if prefix.unwrap_or(name).is_empty() || name.len() > 15 {
            return Err(self.refused(&format!("have {text:?}, which is not the name of a link")));
        }
        Ok(match prefix {
            Some(prefix) => Test::InputPrefix(prefix.to_owned()),
            None => Test::Input(name.to_owned()),
        })
    }

    fn number(&self, text: &str) -> Result<u32, CniError> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| self.refused(&format!("have {text:?}, which is not a mark")))
    }

    /// `10.0.0.0/8`, `10.0.0.0/255.0.0.0` or one address. Bits beyond the prefix don't count.
    fn network(&self, text: &str) -> Result<Cidr, CniError> {
        let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
        let parse = || {
            let address: std::net::IpAddr = address.parse().ok()?;
            let len = match len {
                None => Family::of(address).bits(),
                Some(len) => len.parse().ok().or_else(|| mask_len(len))?,
            };
            Cidr::containing(address, len).filter(|network| network.family() == self.family)
        };
        parse().ok_or_else(|| self.refused(&format!("have {text:?}, which is no network of {}", self.family)))
    }
}

fn mask_len(text: &str) -> Option<u8> {
    let mask = text.parse::<std::net::Ipv4Addr>().ok()?.to_bits();
    (mask.leading_ones() == mask.count_ones()).then_some(mask.count_ones() as u8)
}

/// One of several holds: as many alternatives. None of them holds: all together are one.
fn any_of(tests: Vec<Test>, holds: bool) -> Vec<Vec<Condition>> {
    let conditions = tests.into_iter().map(|test| Condition { test, holds });
    if holds { conditions.map(|condition| vec![condition]).collect() } else { vec![conditions.collect()] }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn parsed(family: Family, items: &[&str]) -> Result<String, String> {
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        let lists = parse("conditions", family, &items).map_err(|error| error.msg)?;
        let text = |Condition { test, holds }: &Condition| {
            let test = match test {
                Test::Source(network) => format!("from {network}"),
                Test::Destination(network) => format!("to {network}"),
                Test::Input(name) => format!("by {name}"),
                Test::InputPrefix(name) => format!("by {name}…"),
                Test::Mark { mask, value } => format!("mark {value:x}/{mask:x}"),
            };
            if *holds { test } else { format!("not {test}") }
        };
        let list = |list: &Vec<Condition>| list.iter().map(text).collect::<Vec<_>>().join(" and ");
        Ok(lists.iter().map(list).collect::<Vec<_>>().join(" or "))
    }

    #[test]
    fn both_languages_are_understood() {
        let v4 = [
            (&[][..], ""),
            (&[""], ""),
            (&["!", "-d", "192.0.2.0/24"], "not to 192.0.2.0/24"),
            (&["-s", "10.1.2.3/8"], "from 10.0.0.0/8"),
            (
                &["-s", "10.0.0.1,10.2.0.0/255.255.0.0", "-i", "eth+"],
                "from 10.0.0.1/32 and by eth… or from 10.2.0.0/16 and by eth…",
            ),
            (&["-m", "mark", "!", "--mark", "0x10/0xf0", "-i", "eth0"], "not mark 10/f0 and by eth0"),
            (&["-m", "comment", "--comment", "x", "-i", "eth0"], "by eth0"),
            (&["ip daddr != 192.0.2.0/24"], "not to 192.0.2.0/24"),
            (
                &["ip", "daddr", "!=", "{10.0.0.1,", "10.0.0.2", "}"],
                "not to 10.0.0.1/32 and not to 10.0.0.2/32",
            ),
            (&["ip saddr { 10.0.0.1, 10.0.0.2 }"], "from 10.0.0.1/32 or from 10.0.0.2/32"),
            (&["iifname", "\"eth0\"", "meta", "mark", "&", "0xff", "==", "3"], "by eth0 and mark 3/ff"),
            (&["meta iifname != eth* mark 7"], "not by eth… and mark 7/ffffffff"),
        ];
        for (items, expected) in v4 {
            assert_eq!(parsed(Family::V4, items).as_deref(), Ok(expected), "{items:?}");
        }
        let v6 = [
            (&["!", "-d", "fc00::/7"][..], "not to fc00::/7"),
            (&["ip6", "saddr", "fd00::1"], "from fd00::1/128"),
        ];
        for (items, expected) in v6 {
            assert_eq!(parsed(Family::V6, items).as_deref(), Ok(expected), "{items:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let wrong = [
            (&["a", "b"][..], "\"a\""),
            (&["-p", "tcp"], "\"-p\""),
            (&["-m", "addrtype"], "-m addrtype"),
            (&["-d"], "end after \"-d\""),
            (&["!"], "end after \"!\""),
            (&["-d", "fc00::/7"], "no network of IPv4"),
            (&["-d", "10.0.0.0/255.0.255.0"], "no network of IPv4"),
            (&["ip6", "daddr", "fc00::/7"], "\"ip6\""),
            (&["ip", "daddr", "{", "10.0.0.1"], "end after \"{\""),
            (&["-i", "averylonglinkname"], "not the name of a link"),
            (&["-i", "+"], "not the name of a link"),
            (&["meta", "mark", "x"], "not a mark"),
        ];
        for (items, expected) in wrong {
            let error = parsed(Family::V4, items).unwrap_err();
            assert!(error.starts_with("conditions: the conditions ") && error.contains(expected), "{error}");
        }
        let many = ["-s", "1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8,1.0.0.9"];
        let many: Vec<&str> = many.iter().chain(&many).copied().collect();
        assert!(parsed(Family::V4, &many).unwrap_err().contains("81 rules"));
    }

    /// Words that get further in than random ones.
    const WORDS: [&str; 20] = [
        "-s",
        "-d",
        "-i",
        "-m",
        "--mark",
        "!",
        "mark",
        "ip",
        "ip6",
        "saddr",
        "iifname",
        "meta",
        "!=",
        "{",
        "}",
        ",",
        "&",
        "10.0.0.0/8",
        "fd00::/8,::1",
        "0x1/0xff",
    ];

    proptest! {
        #[test]
        fn nonsense_is_read_without_harm(
            words in vec(prop_oneof![(0..WORDS.len()).prop_map(|at| WORDS[at].to_owned()), "\\PC{0,8}"], 0..12),
            v6 in any::<bool>(),
        ) {
            let _ = parse("conditions", if v6 { Family::V6 } else { Family::V4 }, &words);
        }
    }
}
