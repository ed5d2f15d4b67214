//! `husk pause` and `husk resume`.

use super::{Context, Result};
use crate::cli::IdArgs;
use crate::lifecycle;
use crate::state::ContainerId;

pub(super) fn pause(context: &Context, args: &IdArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    Ok(lifecycle::pause(&context.root, &id)?)
}

pub(super) fn resume(context: &Context, args: &IdArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    Ok(lifecycle::resume(&context.root, &id)?)
}
