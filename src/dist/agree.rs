//! What ranks must have in common before they begin, and errors of some that all must hear of.

use super::{Comm, gather_all};
use crate::{Error, Result};

/// Checks that every rank has the same of each of these: (what it is, what it is here). Collective.
///
/// # Errors
/// [`Error::Rank`] on all ranks, naming what differs and the first rank that has it otherwise.
pub fn agree(comm: &mut dyn Comm, facts: &[(&str, String)]) -> Result<()> {
    if comm.size() == 1 {
        return Ok(());
    }
    for (what, here) in facts {
        let all = gather_all(comm, here.as_bytes())?;
        if let Some(rank) = all.iter().position(|there| *there != all[0]) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let message = format!("other {what} than rank 0: {} instead of {}", text(&all[rank]), text(&all[0]));
            return Err(Error::Rank { rank, message });
        }
    }
    Ok(())
}

/// Waits for the other ranks to come as far as this one. If any has an error, all have one: their own, or one that says
/// which rank failed and why. Collective.
///
/// # Errors
/// The rank's own; [`Error::Rank`] for that of another.
pub fn all_ok<T>(comm: &mut dyn Comm, mine: Result<T>) -> Result<T> {
    if comm.size() == 1 {
        return mine;
    }
    let text = mine.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let all = gather_all(comm, text.as_bytes())?;
    let value = mine?;
    match all.iter().position(|text| !text.is_empty()) {
        None => Ok(value),
        Some(rank) => {
            let message = String::from_utf8_lossy(&all[rank]).into_owned();
            Err(Error::Rank { rank, message })
        }
    }
}
