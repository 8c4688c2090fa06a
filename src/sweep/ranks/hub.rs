//! Rank 0 of a sweep: hands out legs, and takes what comes back.

use std::path::Path;
use std::thread;

use super::super::ledger::trial_folder;
use super::super::parcel::{pack, unpack};
use super::super::run::{Desk, Message};
use super::super::search::Leg;
use super::super::trial::Stop;
use super::{Order, PAUSE, Report, json, message, parse};
use crate::dist::Comm;
use crate::{Error, Result};

/// Rank 0's view of the others.
pub(super) struct Hub<'a> {
    comm: &'a mut dyn Comm,
    folder: &'a Path,
    /// A rank for each trial that could be trained now.
    free: Vec<usize>,
    num_running: usize,
    is_halted: bool,
}

impl<'a> Hub<'a> {
    pub fn new(comm: &'a mut dyn Comm, folder: &'a Path) -> Self {
        Hub { comm, folder, free: Vec::new(), num_running: 0, is_halted: false }
    }

    /// Hands out legs until none is left, or what is under way has been stopped.
    pub fn serve(mut self, desk: &mut Desk<'_>, stop: Stop<'_>) -> Result<()> {
        let (mut failure, mut num_silent) = (None, self.comm.size() - 1);
        loop {
            if (stop() || failure.is_some()) && !self.is_halted {
                self.is_halted = true;
                for rank in 1..self.comm.size() {
                    self.comm.send(rank, &json(&Order::Stop))?;
                }
            }
            let is_idle = self.hand_out(desk)?;
            if is_idle && self.num_running == 0 && num_silent == 0 {
                return failure.map_or(Ok(()), Err);
            }
            let Some((rank, bytes)) = self.comm.poll()? else {
                thread::sleep(PAUSE);
                continue;
            };
            let (report, parcel): (Report, _) = parse(&bytes)?;
            num_silent -= usize::from(matches!(report, Report::Ready { .. }));
            if let Err(error) = self.take(desk, rank, (report, parcel)) {
                failure.get_or_insert(error);
            }
        }
    }

    /// Gives free ranks legs; whether there is nothing to give or nobody to take it.
    fn hand_out(&mut self, desk: &mut Desk<'_>) -> Result<bool> {
        while !self.is_halted && !self.free.is_empty() {
            let Some(Leg { trial, epochs, .. }) = desk.start_leg()? else { return Ok(true) };
            // The one that has waited longest.
            let rank = self.free.remove(0);
            self.comm.send(rank, &json(&Order::Train { trial, epochs }))?;
            self.num_running += 1;
        }
        Ok(self.is_halted || self.num_running == 0)
    }

    fn take(&mut self, desk: &mut Desk<'_>, rank: usize, (report, parcel): (Report, &[u8])) -> Result<()> {
        if let Report::Ended(..) | Report::Failed(..) | Report::Broken(..) = report {
            self.num_running -= 1;
            self.free.push(rank);
        }
        // The files before the ledger: what that says of a trial is in its folder.
        match report {
            Report::Saved(trial) | Report::Ended(trial, _) | Report::Failed(trial, _) if !parcel.is_empty() => {
                unpack(parcel, &self.folder.join(trial_folder(trial)))?;
            }
            _ => {}
        }
        match report {
            Report::Ready { jobs, is_apart } => {
                self.free.extend(std::iter::repeat_n(rank, jobs));
                if is_apart {
                    desk.observer.apart(rank);
                }
            }
            Report::Wants(trial) => {
                let parcel = pack(&self.folder.join(trial_folder(trial)));
                // It waits for something to come.
                self.comm.send(rank, &message(&Order::Files, parcel.as_deref().unwrap_or_default()))?;
                parcel?;
            }
            Report::News(trial, news) => desk.take(Message::News(trial, news))?,
            Report::Saved(_) => {}
            Report::Ended(trial, progress) => desk.take(Message::Ended(trial, Ok(progress)))?,
            Report::Failed(trial, reason) => desk.failed(trial, reason)?,
            Report::Broken(trial, message) => {
                return Err(Error::Rank { rank, message: format!("trial {}: {message}", trial + 1) });
            }
        }
        Ok(())
    }
}
