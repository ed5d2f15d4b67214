//! `husk events`: what a container uses, from time to time, and when the guest's kernel kills one of its processes for want of
//! memory. One JSON object a line, in runc's shape.

mod shape;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::rpc::{ErrorCode, Request};

use super::{CommandError, Context, Result, print, to_json};
use crate::agent_client::{AgentClient, AgentError};
use crate::cli::EventsArgs;
use crate::lifecycle::LifecycleError;
use crate::process::wait_readable;
use crate::sandbox::SOCKET;
use crate::state::ContainerId;
use shape::{Event, stats};

pub(super) fn events(context: &Context, args: &EventsArgs) -> Result<()> {
    let interval = parse_duration(&args.interval).ok_or_else(|| CommandError::Value {
        option: "interval",
        value: args.interval.clone(),
    })?;
    let id = ContainerId::parse(&args.id)?;
    let (_, status) = context.root.read(&id)?;
    if interval.is_zero() {
        let problem = "duration interval must be greater than 0".to_owned();
        let option = "--interval";
        return Err(CommandError::Option { option, problem });
    }
    if !status.has_processes() {
        let text = format!("container with id {id} is not running");
        return Err(LifecycleError::WrongState(text).into());
    }
    let socket = context.root.path_of(&id).join(SOCKET);
    if args.stats {
        let mut agent = AgentClient::connect(&socket).map_err(LifecycleError::from)?;
        return print_stats(&mut agent, id.as_str());
    }
    match stream(&socket, id.as_str(), interval) {
        Err(CommandError::Lifecycle(LifecycleError::Agent(error))) if is_end(&error) => Ok(()),
        outcome => outcome,
    }
}

/// The container or its machine has ended.
fn is_end(error: &AgentError) -> bool {
    match error {
        AgentError::Refused { code, .. } => {
            matches!(code, ErrorCode::NotFound | ErrorCode::WrongState)
        }
        AgentError::Connect { .. } | AgentError::NoAnswer { .. } | AgentError::Frame(_) => true,
        AgentError::Version { .. } | AgentError::Unexpected => false,
    }
}

/// Until the container has ended, which is an error here.
fn stream(socket: &Path, id: &str, interval: Duration) -> Result<()> {
    let mut agent = AgentClient::connect(socket).map_err(LifecycleError::from)?;
    let mut watch = AgentClient::connect(socket).map_err(LifecycleError::from)?;
    let mut seen = 0;
    let ask = |watch: &mut AgentClient, seen| {
        let request = Request::WaitOom {
            id: id.into(),
            seen,
        };
        watch.send(&request).map_err(LifecycleError::from)
    };
    ask(&mut watch, seen)?;
    let mut next = Instant::now() + interval;
    loop {
        if wait_readable(
            watch.as_fd(),
            next.saturating_duration_since(Instant::now()),
        ) {
            seen = watch.oom().map_err(LifecycleError::from)?;
            print_line(&Event::oom(id))?;
            ask(&mut watch, seen)?;
        } else if Instant::now() >= next {
            print_stats(&mut agent, id)?;
            next += interval;
        }
    }
}

fn print_stats(agent: &mut AgentClient, id: &str) -> Result<()> {
    let figures = agent.stats(id).map_err(LifecycleError::from)?;
    print_line(&Event::stats(id, &stats(&figures)))
}

fn print_line(event: &Event<'_>) -> Result<()> {
    print(&(to_json(event)? + "\n"))
}

/// A time as Go writes it: `5s`, `1m30s`, `1.5h`, `250ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let units = [
            ("ms", 1e-3),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        let part = number.parse::<f64>().ok()? * seconds;
        sum = sum.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = &tail[unit.len()..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go() {
        for (text, milliseconds) in [
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0", 0),
            ("0s", 0),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "5x",
            "nope",
            "1s2",
            "1..5s",
            "1e9s",
            "9999999999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
