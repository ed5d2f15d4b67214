//! Device rules (`linux.resources.devices`) as a program for the kernel, which cgroup v2 asks at every open and mknod.
//!
//! Rules apply in their order, so the last one that says something about a kind of access decides it. What no rule
//! mentions is denied. After the spec's rules come those that every container needs, as in runc.

use protocol::rpc::ErrorCode;
use serde_json::Value;

use super::Failure;
use super::bpf::Instruction;

/// Most rules of one container.
const MAX_RULES: usize = 1024;

/// Kinds of access, numbered as in `struct bpf_cgroup_dev_ctx`.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Types of device, numbered as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Character = 2,
}

/// One rule; `None` stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

const fn allowed(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }
}

/// What every container may do: make any node, and use those that it finds in its `/dev`.
const DEFAULTS: [Rule; 10] = [
    allowed(Kind::Character, None, None, MKNOD),
    allowed(Kind::Block, None, None, MKNOD),
    allowed(Kind::Character, Some(1), Some(3), ALL), // null
    allowed(Kind::Character, Some(1), Some(5), ALL), // zero
    allowed(Kind::Character, Some(1), Some(7), ALL), // full
    allowed(Kind::Character, Some(1), Some(8), ALL), // random
    allowed(Kind::Character, Some(1), Some(9), ALL), // urandom
    allowed(Kind::Character, Some(5), Some(0), ALL), // tty
    allowed(Kind::Character, Some(5), Some(2), ALL), // ptmx
    allowed(Kind::Character, Some(136), None, ALL),  // pts/*
];

/// The program for a spec's rules.
pub(super) fn program(spec: &Value) -> Result<Vec<Instruction>, Failure> {
    let rules = spec
        .pointer("/linux/resources/devices")
        .and_then(Value::as_array);
    let rules = rules.map(Vec::as_slice).unwrap_or_default();
    if rules.len() > MAX_RULES {
        let problem = format!("has more than {MAX_RULES} rules");
        return Err(invalid("", &problem));
    }
    let rules: Result<Vec<_>, _> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            parse(rule).map_err(|problem| invalid(&format!("[{index}]"), &problem))
        })
        .collect();
    let mut rules = rules?;
    rules.extend(DEFAULTS);
    Ok(compile(&rules))
}

/// Whether a rule opens every device: what `--privileged` becomes.
pub(super) fn allows_everything(spec: &Value) -> bool {
    let rules = spec.pointer("/linux/resources/devices");
    let rules = rules.and_then(Value::as_array).into_iter().flatten();
    let mut rules = rules.filter_map(|rule| parse(rule).ok());
    rules.any(|rule| rule.allow && (rule.kind, rule.major, rule.minor) == (None, None, None))
}

fn invalid(place: &str, problem: &str) -> Failure {
    let message = format!("linux.resources.devices{place} {problem}");
    Failure::new(ErrorCode::Invalid, message)
}

fn parse(rule: &Value) -> Result<Rule, String> {
    let text = |field| rule.get(field).and_then(Value::as_str);
    let number = |field: &str| match rule.get(field).and_then(Value::as_i64) {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("has the {field} number {number}")),
        },
    };
    let kind = match text("type") {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Character),
        Some(other) => return Err(format!("has the unknown type {other:?}")),
    };
    let mut access = 0;
    for letter in text("access").unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(format!("has the unknown access {letter:?}")),
        };
    }
    Ok(Rule {
        allow: rule.get("allow").and_then(Value::as_bool).unwrap_or(false),
        kind,
        major: number("major")?,
        minor: number("minor")?,
        // A rule for everything is about every access, whatever it says.
        access: if kind.is_none() { ALL } else { access },
    })
}

/// Registers of the program: what is asked for (and no rule has allowed yet), and of which device.
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // `access_type`: the type in the low half, the access in the high one.
        Instruction::load(ACCESS, 0),
        Instruction::copy(KIND, ACCESS),
        Instruction::and(KIND, 0xffff),
        Instruction::shift_right(ACCESS, 16),
        Instruction::load(MAJOR, 4),
        Instruction::load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let body = body(rule);
        let conditions = [
            (KIND, rule.kind.map(|kind| kind as u32)),
            (MAJOR, rule.major),
            (MINOR, rule.minor),
        ];
        let conditions = conditions
            .iter()
            .filter_map(|(register, value)| Some((*register, (*value)?)));
        let conditions: Vec<_> = conditions.collect();
        for (index, (register, value)) in conditions.iter().enumerate() {
            let skipped = conditions.len() - index - 1 + body.len();
            program.push(Instruction::skip_unless_equal(*register, *value, skipped));
        }
        program.extend(body);
    }
    program.extend(Instruction::answer(false));
    program
}

/// What a rule does to an access that concerns its devices.
fn body(rule: &Rule) -> Vec<Instruction> {
    let access = u32::from(rule.access);
    let mut body = if rule.allow {
        vec![
            Instruction::and(ACCESS, u32::from(ALL) & !access),
            Instruction::skip_unless_equal(ACCESS, 0, 2),
        ]
    } else {
        vec![
            Instruction::skip_if_any(ACCESS, access, 1),
            Instruction::skip(2),
        ]
    };
    body.extend(Instruction::answer(rule.allow));
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(rules: &Value) -> Value {
        json!({"linux": {"resources": {"devices": rules}}})
    }

    /// Runs the program as the kernel would.
    fn may(rules: &Value, access: u8, kind: Kind, major: u32, minor: u32) -> bool {
        let program = program(&spec(rules)).unwrap();
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        super::super::bpf::interpret(&program, context) == 1
    }

    #[test]
    fn without_rules_the_common_devices_are_allowed_and_no_other() {
        let rules = json!([]);
        assert!(may(&rules, READ | WRITE, Kind::Character, 1, 3));
        assert!(may(&rules, MKNOD, Kind::Block, 8, 0));
        assert!(may(&rules, ALL, Kind::Character, 136, 77));
        assert!(!may(&rules, READ, Kind::Block, 8, 0));
        assert!(!may(&rules, READ, Kind::Character, 1, 1));
        assert!(!may(&rules, MKNOD | READ, Kind::Character, 1, 1));
        assert!(!may(&rules, READ, Kind::Block, 1, 3));
    }

    #[test]
    fn the_last_rule_about_an_access_decides_it() {
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "access": "rw"},
            {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
        ]);
        assert!(may(&rules, READ | WRITE, Kind::Character, 10, 200));
        assert!(may(&rules, READ, Kind::Character, 10, 229));
        assert!(!may(&rules, READ | WRITE, Kind::Character, 10, 229));
        assert!(may(&rules, READ, Kind::Block, 8, 0));
        assert!(!may(&rules, WRITE, Kind::Block, 8, 0));
        assert!(!may(&rules, READ, Kind::Block, 8, 1));
    }

    #[test]
    fn a_rule_for_everything_opens_everything() {
        let rules = json!([{"allow": true, "type": "a", "access": "r", "major": -1}]);
        assert!(may(&rules, ALL, Kind::Block, 259, 1_000_000));
        let rules = json!([{"allow": true, "access": "rwm"}, {"allow": false}]);
        assert!(!may(&rules, READ, Kind::Block, 259, 1));
    }

    #[test]
    fn a_bad_rule_is_named() {
        for (rule, part) in [
            (json!({"type": "x"}), "[1] has the unknown type \"x\""),
            (json!({"access": "rx"}), "[1] has the unknown access 'x'"),
            (json!({"major": -5}), "[1] has the major number -5"),
        ] {
            let failure = program(&spec(&json!([{"allow": true}, rule]))).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Invalid);
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        let many = vec![json!({"allow": true}); MAX_RULES + 1];
        assert!(program(&spec(&json!(many))).is_err());
    }
}
