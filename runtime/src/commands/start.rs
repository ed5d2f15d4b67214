//! `husk start`.

use super::{Context, Result};
use crate::cli::IdArgs;
use crate::lifecycle;
use crate::state::ContainerId;

pub(super) fn start(context: &Context, args: &IdArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    Ok(lifecycle::start(&context.root, &id, &context.log)?)
}
