//! `husk state`.

use super::{CommandError, Context, Result, print};
use crate::cli::IdArgs;
use crate::state::{ContainerId, View};

pub(super) fn state(context: &Context, args: &IdArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    let (record, status) = context.root.read(&id)?;
    let text = serde_json::to_string_pretty(&View::new(&record, status));
    let failed = |error: serde_json::Error| CommandError::Write {
        path: "standard output".into(),
        source: error.into(),
    };
    // Without a line's end, as runc.
    print(&text.map_err(failed)?)
}
