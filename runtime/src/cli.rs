//! The command line: argument types only, with runc's names (1.1), so that engines find what they expect.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// What follows the name in `--version`: the lines that engines parse of runc.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// Runs OCI containers, each in a virtual machine of its own.
#[derive(Debug, Parser)]
#[command(
    name = "husk",
    version = VERSION,
    disable_version_flag = true,
    // As with runc, the last of several wins: engines add options of their own to those that they are configured with.
    args_override_self = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options before the command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Directory of container state
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Also log to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log what is done, not only what fails
    #[arg(long)]
    pub(crate) debug: bool,
    /// Let systemd make the cgroup: cgroupsPath is slice:prefix:name
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Print the version
    #[arg(long, short = 'v', action = ArgAction::Version)]
    version: Option<bool>,
    /// Accepted for compatibility
    #[arg(long, value_name = "VALUE", hide = true)]
    pub(crate) rootless: Option<String>,
    /// Accepted for compatibility
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) criu: Option<PathBuf>,
}

/// Format of the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `key=value` pairs
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container; its program waits for `start`
    Create(CreateArgs),
    /// Let the program of a created container run
    Start(IdArgs),
    /// Make and start a container
    Run(RunArgs),
    /// Print the state of a container
    State(IdArgs),
    /// Send a signal to a container's first process
    Kill(KillArgs),
    /// Remove a container
    Delete(DeleteArgs),
    /// List containers
    List(ListArgs),
    /// Run a further process in a container
    Exec(Box<ExecArgs>),
    /// List the processes of a container
    Ps(PsArgs),
    /// Freeze the processes of a container
    Pause(IdArgs),
    /// Let the processes of a paused container run on
    Resume(IdArgs),
    /// Change the limits of a container
    Update(Box<UpdateArgs>),
    /// Print what a container uses, and when it runs out of memory
    Events(EventsArgs),
    /// Write a config.json to start from
    Spec(SpecArgs),
    /// Print what this runtime supports, as JSON
    Features,
    /// Not to be run by hand
    #[command(hide = true)]
    Init,
}

/// A container's id.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) options: CreateOptions,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}

/// Options of `create` and `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateOptions {
    /// Directory with config.json [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's controlling end
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File to write the monitor's process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Accepted for compatibility: the guest can always pivot
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Accepted for compatibility: the guest has its own keyrings
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Number of further descriptors to pass; only 0 is possible
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) options: CreateOptions,
    /// Return once the program runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// Run an image instead of a bundle, as `husk-rootfs bundle` makes one of it
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["bundle", "detach", "keep"])]
    pub(crate) image: Option<String>,
    /// Container id; with an image one is made up where none is given
    #[arg(value_name = "CONTAINER-ID", required_unless_present = "image")]
    pub(crate) id: Option<String>,
    /// Arguments in the place of those of the image
    #[arg(last = true, value_name = "ARG", requires = "image")]
    pub(crate) arguments: Vec<String>,
}

/// Arguments of `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// To all processes of the container
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
    /// Name or number
    #[arg(
        value_name = "SIGNAL",
        default_value = "SIGTERM",
        allow_negative_numbers = true
    )]
    pub(crate) signal: String,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kill the container if it runs; succeed if there is none
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Format of the list
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
    /// Print ids only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Format of `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// Aligned columns
    Table,
    /// One JSON array
    Json,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Unix socket that receives the terminal's controlling end
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Environment variable, NAME=VALUE
    #[arg(long, short, value_name = "VARIABLE")]
    pub(crate) env: Vec<String>,
    /// Give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// UID[:GID]
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Further group id
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// File with the OCI process object
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return once the process runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File to write the monitor's process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// The process and its children gain no privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Further capability
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Number of further descriptors to pass; only 0 is possible
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Accepted for compatibility
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
    /// Program and arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// Arguments of `spec`.
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Directory to write config.json to [default: the current one]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// For a user without privileges
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Format of the list
    #[arg(long, short, value_enum, default_value_t = PsFormat::Table)]
    pub(crate) format: PsFormat,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
    /// Options of ps(1): -ef or -o LIST
    #[arg(
        value_name = "PS-OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) options: Vec<String>,
}

/// Format of `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PsFormat {
    /// The guest's processes, in the columns of ps(1)
    Table,
    /// A JSON list of process ids of the host
    Json,
}

/// Arguments of `update`. Numbers are texts here, so that a wrong one is refused with the words of runc.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// File with an OCI resources object, - for standard input; other options are ignored
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<String>,
    /// Weight for block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<String>,
    /// CPU period, in microseconds
    #[arg(long, value_name = "USEC")]
    pub(crate) cpu_period: Option<String>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<String>,
    /// CPU shares against other containers
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_share: Option<String>,
    /// Refused: the guest has cgroup version 2
    #[arg(long, value_name = "USEC", hide = true)]
    pub(crate) cpu_rt_period: Option<String>,
    /// Refused: the guest has cgroup version 2
    #[arg(long, value_name = "USEC", hide = true, allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// Processors of the host
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes of the host
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Ignored, as by runc
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Ignored, as by runc
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Memory limit, in bytes or with a unit; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// Memory that is kept free for the container
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<String>,
    /// Refused: Intel RDT belongs to the host
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub(crate) l3_cache_schema: Option<String>,
    /// Refused: Intel RDT belongs to the host
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub(crate) mem_bw_schema: Option<String>,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Time between two statistics, like 5s or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) interval: String,
    /// Print the statistics once
    #[arg(long)]
    pub(crate) stats: bool,
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}
