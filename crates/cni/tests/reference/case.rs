//! Cases: a configuration, what is there before, and the steps; each a line or two in the tables.

use serde_json::{Value, json};

/// Every version of the specification.
pub const ALL: &[&str] = &["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// One thing that is done on both sides. Pods go by number.
#[derive(Clone, Debug)]
pub enum Step {
    /// ADD of a pod.
    Add(usize),
    /// CHECK with the result of ADD.
    Check(usize),
    /// DEL with the result of ADD.
    Del(usize),
    /// DEL with `CNI_NETNS` empty.
    DelWithout(usize),
    /// The pod's namespace ends; its path is gone.
    Vanish(usize),
    /// A command on the host.
    Host(&'static str),
    /// A command in a pod.
    Pod(usize, &'static str),
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

/// What both sides are to do alike.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub plugin: String,
    /// The configuration; `cniVersion` is put in. `{dir}` stands for the place's folder.
    pub config: Value,
    /// In place of `config`, what stdin says to the letter.
    pub text: Option<&'static str>,
    pub versions: &'static [&'static str],
    /// Variables that are not as usual; `-` for one that is not there.
    pub env: Vec<(&'static str, &'static str)>,
    /// Files that are there before, below the place's folder.
    pub files: Vec<(&'static str, &'static str)>,
    pub steps: Vec<Step>,
    /// Rows of the documentation's table that this case shows, beyond those that every case does.
    pub rows: Vec<&'static str>,
    /// Whether duplicate address detection is left on.
    pub dad: bool,
    /// Whether all of it is also done by one side after the other.
    pub crosswise: bool,
    /// Whether it is also done by the reference with our IPAM plugin.
    pub mixed: bool,
}

impl Case {
    pub fn new(name: &str, plugin: &str, config: Value) -> Case {
        Case {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            config,
            text: None,
            versions: &["1.1.0"],
            env: Vec::new(),
            files: Vec::new(),
            steps: vec![Step::Add(0), Step::Check(0), Step::Del(0), Step::Del(0)],
            rows: Vec::new(),
            dad: false,
            crosswise: true,
            mixed: false,
        }
    }

    pub fn versions(self, versions: &'static [&'static str]) -> Case {
        Case { versions, ..self }
    }

    pub fn text(self, text: &'static str) -> Case {
        Case { text: Some(text), ..self }
    }

    pub fn env(mut self, name: &'static str, value: &'static str) -> Case {
        self.env.push((name, value));
        self
    }

    pub fn args(self, args: &'static str) -> Case {
        self.env("CNI_ARGS", args)
    }

    pub fn file(mut self, path: &'static str, content: &'static str) -> Case {
        self.files.push((path, content));
        self
    }

    pub fn steps(self, steps: &[Step]) -> Case {
        Case { steps: steps.to_vec(), ..self }
    }

    /// A command on the host before all else.
    pub fn before(mut self, command: &'static str) -> Case {
        let n_before = self.steps.iter().take_while(|step| matches!(step, Step::Host(_))).count();
        self.steps.insert(n_before, Step::Host(command));
        self
    }

    pub fn rows(self, rows: &[&'static str]) -> Case {
        Case { rows: rows.to_vec(), ..self }
    }

    pub fn with_dad(self) -> Case {
        Case { dad: true, ..self }
    }

    /// Not one side after the other.
    pub fn apart(self) -> Case {
        Case { crosswise: false, ..self }
    }

    /// By the reference with our IPAM plugin as well.
    pub fn mixed(self) -> Case {
        Case { mixed: true, ..self }
    }

    pub fn n_pods(&self) -> usize {
        let pod = |step: &Step| match step {
            Step::Add(pod) | Step::Check(pod) | Step::Del(pod) | Step::DelWithout(pod) => pod + 1,
            Step::Vanish(pod) | Step::Pod(pod, _) => pod + 1,
            Step::Host(_) | Step::Status | Step::Version => 0,
        };
        self.steps.iter().map(pod).max().unwrap_or(0)
    }
}

/// `ipam` of host-local with a set per subnet.
pub fn ranges(subnets: &[&str]) -> Value {
    let sets: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"type": "host-local", "dataDir": "{dir}/data", "ranges": sets})
}

/// `ipam` of host-local with these keys.
pub fn ipam(keys: Value) -> Value {
    with(json!({"type": "host-local", "dataDir": "{dir}/data"}), keys)
}

/// An object with the keys of another added or put in place of its own.
pub fn with(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}
