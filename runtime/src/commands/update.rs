//! `husk update`: options, or a file, to the OCI `linux.resources` object that they mean.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::{CommandError, Context, Result};
use crate::cli::UpdateArgs;
use crate::lifecycle;
use crate::state::ContainerId;

/// Largest resources file, in bytes.
const MAX_RESOURCES: u64 = 1 << 20;

/// Block I/O weights of runc.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

pub(super) fn update(context: &Context, args: &UpdateArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    // A missing container is told before a wrong option, as by runc.
    context.root.read(&id)?;
    let resources = match &args.resources {
        Some(file) => read(file)?,
        None => from_options(args)?,
    };
    if args.kernel_memory.is_some() || args.kernel_memory_tcp.is_some() {
        let text = "Kernel memory settings are ignored and will be removed";
        context.log.warn(text);
    }
    Ok(lifecycle::update(&context.root, &id, &resources)?)
}

fn read(file: &str) -> Result<LinuxResources> {
    let path = Path::new(if file == "-" { "/dev/stdin" } else { file });
    let mut text = Vec::new();
    let failed = |source: io::Error| CommandError::Read {
        path: path.to_owned(),
        source,
    };
    let opened: io::Result<Box<dyn Read>> = match file {
        "-" => Ok(Box::new(io::stdin())),
        _ => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let input = opened.map_err(failed)?;
    input
        .take(MAX_RESOURCES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

fn from_options(args: &UpdateArgs) -> Result<LinuxResources> {
    for (option, value) in [
        ("--cpu-rt-period", &args.cpu_rt_period),
        ("--cpu-rt-runtime", &args.cpu_rt_runtime),
        ("--l3-cache-schema", &args.l3_cache_schema),
        ("--mem-bw-schema", &args.mem_bw_schema),
    ] {
        if value.is_some() {
            let problem = "a guest has no such limit".to_owned();
            return Err(CommandError::Option { option, problem });
        }
    }
    let mut resources = Map::new();
    let mut set = |group: &str, field: &str, value: Option<Value>| {
        if let Some(value) = value {
            let fields = resources.entry(group).or_insert_with(|| json!({}));
            fields[field] = value;
        }
    };
    set(
        "cpu",
        "period",
        number::<u64>("cpu-period", &args.cpu_period)?,
    );
    set("cpu", "quota", number::<i64>("cpu-quota", &args.cpu_quota)?);
    set(
        "cpu",
        "shares",
        number::<u64>("cpu-share", &args.cpu_share)?,
    );
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Value::from));
    set("cpu", "mems", args.cpuset_mems.clone().map(Value::from));
    set("memory", "limit", bytes("memory", &args.memory)?);
    set(
        "memory",
        "reservation",
        bytes("memory-reservation", &args.memory_reservation)?,
    );
    set("memory", "swap", bytes("memory-swap", &args.memory_swap)?);
    set(
        "pids",
        "limit",
        number::<i64>("pids-limit", &args.pids_limit)?,
    );
    set("blockIO", "weight", weight(&args.blkio_weight)?);
    let resources = serde_json::from_value(resources.into());
    resources.map_err(|error| CommandError::Option {
        option: "update",
        problem: error.to_string(),
    })
}

fn invalid(option: &'static str, value: &str) -> CommandError {
    CommandError::Value {
        option,
        value: value.to_owned(),
    }
}

fn number<T: FromStr + Into<Value>>(
    option: &'static str,
    text: &Option<String>,
) -> Result<Option<Value>> {
    let parse = |text: &String| text.parse::<T>().map_err(|_| invalid(option, text));
    Ok(text.as_ref().map(parse).transpose()?.map(Into::into))
}

fn weight(text: &Option<String>) -> Result<Option<Value>> {
    let option = "blkio-weight";
    let parse = |text: &String| {
        let weight = text.parse().ok().filter(|weight| WEIGHTS.contains(weight));
        weight.ok_or_else(|| invalid(option, text))
    };
    Ok(text.as_ref().map(parse).transpose()?.map(Into::into))
}

fn bytes(option: &'static str, text: &Option<String>) -> Result<Option<Value>> {
    let parse = |text: &String| parse_bytes(text).ok_or_else(|| invalid(option, text));
    Ok(text.as_ref().map(parse).transpose()?.map(Into::into))
}

/// Bytes as Docker's units package reads them: a number, a unit of 1024, and an optional `b` or `ib`; or -1.
fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(options: &[&str]) -> Result<Value> {
        let words = ["husk", "update"].iter().chain(options).chain(&["c"]);
        let cli = crate::cli::Cli::try_parse_from(words).unwrap();
        let crate::cli::Command::Update(args) = cli.command else {
            panic!("another command");
        };
        from_options(&args).map(|resources| serde_json::to_value(resources).unwrap())
    }

    #[test]
    fn options_become_resources() {
        let options = [
            "--memory=64m",
            "--memory-swap",
            "-1",
            "--cpu-quota",
            "-1",
            "--cpu-share",
            "512",
            "--pids-limit",
            "-1",
            "--cpuset-cpus",
            "0-1",
            "--blkio-weight",
            "10",
        ];
        assert_eq!(
            parse(&options).unwrap(),
            json!({
                "memory": {"limit": 64 << 20, "swap": -1},
                "cpu": {"quota": -1, "shares": 512, "cpus": "0-1"},
                "pids": {"limit": -1},
                "blockIO": {"weight": 10},
            })
        );
        assert_eq!(parse(&[]).unwrap(), json!({}));
    }

    #[test]
    fn wrong_values_are_named() {
        for (option, value) in [
            ("memory", "nope"),
            ("memory", "1z"),
            ("memory-swap", "-2"),
            ("memory", "99999999999g"),
            ("cpu-period", "-1"),
            ("cpu-quota", "1.5"),
            ("cpu-share", ""),
            ("pids-limit", "many"),
            ("blkio-weight", "9"),
            ("blkio-weight", "65546"),
            ("cpu-rt-period", "1"),
            ("l3-cache-schema", "x"),
        ] {
            let error = parse(&[&format!("--{option}={value}")]).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("1k", Some(1024)),
            ("2Mb", Some(2 << 20)),
            ("3GiB", Some(3 << 30)),
            ("4 t", Some(4 << 40)),
            ("5b", Some(5)),
            ("", None),
            ("k", None),
            ("-5", None),
            ("1kk", None),
            ("9999999p", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
