//! The table of `husk ps`: the columns that `ps -ef` has, in the widths of procps.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::rpc::Process;

use crate::clock;
use crate::owner::owner_name;
use crate::state::Record;

/// Clock ticks a second (`sysconf(_SC_CLK_TCK)`): 100 on every Linux that husk runs on and in.
const TICKS: u64 = 100;

/// Terminals of the pty driver: major numbers 136 to 143, 256 minor numbers each.
const PTY_MAJORS: std::ops::Range<u32> = 136..144;

/// The serial ports and the consoles.
const TTY_MAJOR: u32 = 4;

/// First minor number of the serial ports.
const FIRST_SERIAL: u32 = 64;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    User,
    Pid,
    Parent,
    Usage,
    Start,
    Terminal,
    Time,
    Command,
}

/// Which columns are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns(Vec<Column>);

/// Moments that times are counted from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    /// Ticks from the host's boot to the guest's.
    guest_boot: u64,
    /// Seconds from 1970 to the host's boot.
    host_boot: u64,
    /// Ticks from the host's boot to now.
    now: u64,
}

impl Moments {
    /// The guest boots when its machine starts, to a few milliseconds.
    pub(super) fn of(record: &Record) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let uptime = std::fs::read_to_string("/proc/uptime")?;
        let (seconds, rest) = uptime.split_once('.').ok_or_else(invalid)?;
        let seconds: u64 = seconds.parse().map_err(|_| invalid())?;
        let hundredths: u64 = rest
            .get(..2)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            guest_boot: record.vmm.map_or(0, |vmm| vmm.start_time),
            host_boot: since.as_secs().saturating_sub(seconds),
            now: seconds.saturating_mul(TICKS).saturating_add(hundredths),
        })
    }

    fn start(self, process: &Process) -> u64 {
        self.guest_boot.saturating_add(process.start_ticks)
    }
}

impl Columns {
    /// What `ps -ef` and `ps -eo LIST` mean.
    pub(super) fn parse(options: &[String]) -> Result<Self, String> {
        let mut columns = Vec::new();
        let mut options = options.iter().map(String::as_str);
        while let Some(option) = options.next() {
            match option {
                "-e" | "-f" | "-ef" => {}
                _ => {
                    let list = ["-eo", "-o"]
                        .iter()
                        .find_map(|name| option.strip_prefix(name));
                    let list = match list {
                        Some("") => options.next().ok_or("a list of columns is missing")?,
                        Some(list) => list,
                        None => return Err(format!("{option:?} is none of -ef and -o LIST")),
                    };
                    for name in list.split([',', ' ']) {
                        let column = Column::named(name);
                        columns.push(column.ok_or_else(|| format!("unknown column {name:?}"))?);
                    }
                }
            }
        }
        if columns.is_empty() {
            columns = vec![
                Column::User,
                Column::Pid,
                Column::Parent,
                Column::Usage,
                Column::Start,
                Column::Terminal,
                Column::Time,
                Column::Command,
            ];
        }
        Ok(Self(columns))
    }

    /// Heading and one line a process.
    pub(super) fn table(&self, processes: &[Process], moments: Moments) -> String {
        let mut text = self.line(|column| column.heading().to_owned());
        for process in processes {
            text += &self.line(|column| column.cell(process, moments));
        }
        text
    }

    fn line(&self, cell: impl Fn(Column) -> String) -> String {
        let cells: Vec<_> = self
            .0
            .iter()
            .map(|column| column.pad(&cell(*column)))
            .collect();
        cells.join(" ").trim_end().to_owned() + "\n"
    }
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "user" | "euser" | "uid" => Self::User,
            "pid" => Self::Pid,
            "ppid" => Self::Parent,
            "c" => Self::Usage,
            "stime" => Self::Start,
            "tty" | "tt" | "tname" => Self::Terminal,
            "time" | "cputime" => Self::Time,
            "cmd" | "args" | "command" => Self::Command,
            _ => return None,
        })
    }

    fn heading(self) -> &'static str {
        match self {
            Self::User => "UID",
            Self::Pid => "PID",
            Self::Parent => "PPID",
            Self::Usage => "C",
            Self::Start => "STIME",
            Self::Terminal => "TTY",
            Self::Time => "TIME",
            Self::Command => "CMD",
        }
    }

    fn pad(self, cell: &str) -> String {
        match self {
            Self::User | Self::Terminal => format!("{cell:<8}"),
            Self::Pid | Self::Parent | Self::Start => format!("{cell:>5}"),
            Self::Usage => format!("{cell:>2}"),
            Self::Time => format!("{cell:>8}"),
            Self::Command => cell.to_owned(),
        }
    }

    fn cell(self, process: &Process, moments: Moments) -> String {
        match self {
            Self::User => owner_name(process.uid),
            Self::Pid => process.pid.to_string(),
            Self::Parent => process.ppid.to_string(),
            Self::Usage => usage(process, moments).to_string(),
            Self::Start => {
                let seconds = |ticks: u64| moments.host_boot.saturating_add(ticks / TICKS);
                clock::started(seconds(moments.start(process)), seconds(moments.now))
            }
            Self::Terminal => terminal(process.tty),
            Self::Time => {
                let seconds = process.cpu_ticks / TICKS;
                let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
                format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
            }
            // A guest writes these: no control character of it reaches the caller's terminal.
            Self::Command => process.command.replace(|c: char| c.is_control(), "?"),
        }
    }
}

/// Share of one processor's time since the process started, in percent.
fn usage(process: &Process, moments: Moments) -> u64 {
    let lived = moments.now.saturating_sub(moments.start(process)).max(1);
    (process.cpu_ticks.saturating_mul(100) / lived).min(99)
}

/// Name of a terminal, from its device number as the kernel encodes it for programs.
fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        0 => "?".to_owned(),
        _ if PTY_MAJORS.contains(&major) => {
            format!("pts/{}", (major - PTY_MAJORS.start) * 256 + minor)
        }
        TTY_MAJOR if minor >= FIRST_SERIAL => format!("ttyS{}", minor - FIRST_SERIAL),
        TTY_MAJOR => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            pid: 42,
            ppid: 1,
            uid: 0,
            cpu_ticks: 366_100,
            start_ticks: 500,
            tty: 0x8801,
            command: "sleep \x1b[31m1".into(),
        }
    }

    const MOMENTS: Moments = Moments {
        guest_boot: 1_000,
        host_boot: 1_735_689_600,
        now: 733_700,
    };

    fn parse(options: &[&str]) -> Result<Columns, String> {
        Columns::parse(
            &options
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_table_is_that_of_ps() {
        let table = parse(&[]).unwrap().table(&[process()], MOMENTS);
        assert_eq!(
            table,
            "UID        PID  PPID  C STIME TTY          TIME CMD\n\
             root        42     1 50 00:00 pts/1    01:01:01 sleep ?[31m1\n"
        );
    }

    #[test]
    fn columns_can_be_chosen() {
        for options in [
            &["-eo", "pid,cmd"][..],
            &["-e", "-opid,args"],
            &["-o", "pid cmd"],
        ] {
            assert_eq!(
                parse(options),
                Ok(Columns(vec![Column::Pid, Column::Command]))
            );
        }
        assert_eq!(parse(&["-e", "-f"]), parse(&["-ef"]));
        for options in [&["aux"][..], &["-o"], &["-o", "pid,nope"], &["-o", ""]] {
            assert!(parse(options).is_err(), "{options:?}");
        }
    }

    #[test]
    fn terminals_have_names() {
        for (device, name) in [
            (0, "?"),
            (0x0440, "ttyS0"),
            (0x0401, "tty1"),
            (0x8800, "pts/0"),
            (0x8907, "pts/263"),
            (0x0501, "5:1"),
        ] {
            assert_eq!(terminal(device), name);
        }
    }
}
