//! `husk delete`.

use super::{Context, Result};
use crate::cli::DeleteArgs;
use crate::lifecycle::{self, Force};
use crate::state::ContainerId;

pub(super) fn delete(context: &Context, args: &DeleteArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    let force = if args.force { Force::Yes } else { Force::No };
    Ok(lifecycle::delete(&context.root, &id, force, &context.log)?)
}
