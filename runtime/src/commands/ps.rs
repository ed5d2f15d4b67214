//! `husk ps`: the processes of a container. The table shows them as the guest's kernel sees them, in the columns of the host's
//! `ps`; the JSON list has the processes of the host that stand for them, which is what engines look up.

mod table;

use super::{CommandError, Context, Result, print, to_json};
use crate::cli::{PsArgs, PsFormat};
use crate::lifecycle::{LifecycleError, processes};
use crate::mirror;
use crate::state::ContainerId;
use table::{Columns, Moments};

pub(super) fn ps(context: &Context, args: &PsArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    let (record, status) = context.root.read(&id)?;
    match args.format {
        // As Go writes a list that nothing was put into.
        PsFormat::Json if !status.has_processes() => print("null"),
        PsFormat::Json => {
            let processes = processes(&context.root, &id)?;
            let mirrors = mirror::show(&processes, record.monitor.pid, record.cgroup.as_ref());
            print(&to_json(&mirrors.map_err(LifecycleError::Mirror)?)?)
        }
        PsFormat::Table => {
            let columns =
                Columns::parse(&args.options).map_err(|problem| CommandError::Option {
                    option: "ps options",
                    problem,
                })?;
            let processes = match status.has_processes() {
                true => processes(&context.root, &id)?,
                false => Vec::new(),
            };
            let moments = Moments::of(&record).map_err(LifecycleError::Monitor)?;
            print(&columns.table(&processes, moments))
        }
    }
}
