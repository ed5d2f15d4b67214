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
    arg_required_else_help = true
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
    /// Accepted for compatibility: guest cgroups need no systemd
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
    /// Write a config.json to start from
    Spec(SpecArgs),
    /// Print what this runtime supports, as JSON
    Features,
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
    /// Container id
    #[arg(value_name = "CONTAINER-ID")]
    pub(crate) id: String,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return once the program runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,
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
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
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
