//! Ranks that are threads of one process: what tests put in the place of MPI.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::Comm;
use crate::{Error, Result};

/// How long a rank waits for another. A test that comes to this has lost a rank.
const PATIENCE: Duration = Duration::from_secs(120);

enum Letter {
    Gathered(Vec<u8>),
    Message(Vec<u8>),
}

/// One of several ranks within a process, each for a thread of its own.
pub struct Threads {
    rank: usize,
    to: Vec<Sender<(usize, Letter)>>,
    inbox: Receiver<(usize, Letter)>,
    /// Letters that came before they were asked for, from each rank.
    gathered: Vec<std::collections::VecDeque<Vec<u8>>>,
    messages: std::collections::VecDeque<(usize, Vec<u8>)>,
}

impl Threads {
    /// A group of `size` ranks.
    pub fn group(size: usize) -> Vec<Threads> {
        let (to, inboxes): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let rank = |(rank, inbox)| Threads {
            rank,
            to: to.clone(),
            inbox,
            gathered: vec![Default::default(); size],
            messages: Default::default(),
        };
        inboxes.into_iter().enumerate().map(rank).collect()
    }

    fn post(&self, to: usize, letter: Letter) -> Result<()> {
        self.to[to].send((self.rank, letter)).map_err(|_| gone(to))
    }

    fn sort(&mut self, (from, letter): (usize, Letter)) {
        match letter {
            Letter::Gathered(bytes) => self.gathered[from].push_back(bytes),
            Letter::Message(bytes) => self.messages.push_back((from, bytes)),
        }
    }
}

fn gone(rank: usize) -> Error {
    Error::Rank { rank, message: "it has ended before the others".to_owned() }
}

impl Comm for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut Vec<u8>) -> Result<()> {
        for to in 0..self.size() {
            self.post(to, Letter::Gathered(mine.to_vec()))?;
        }
        all.clear();
        for from in 0..self.size() {
            let bytes = loop {
                if let Some(bytes) = self.gathered[from].pop_front() {
                    break bytes;
                }
                let letter = self.inbox.recv_timeout(PATIENCE).map_err(|_| gone(from))?;
                self.sort(letter);
            };
            if bytes.len() != mine.len() {
                let message = format!("it gathers {} bytes, rank {} {}", bytes.len(), self.rank, mine.len());
                return Err(Error::Rank { rank: from, message });
            }
            all.extend(bytes);
        }
        Ok(())
    }

    fn send(&mut self, to: usize, message: &[u8]) -> Result<()> {
        self.post(to, Letter::Message(message.to_vec()))
    }

    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        while let Ok(letter) = self.inbox.try_recv() {
            self.sort(letter);
        }
        Ok(self.messages.pop_front())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::super::{agree, all_ok, answer_of_first, gather_all};
    use super::*;

    /// What each rank gives.
    fn on_each<T: Send>(size: usize, body: impl Fn(&mut Threads) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let ranks = Threads::group(size).into_iter().map(|mut comm| {
                let body = &body;
                scope.spawn(move || body(&mut comm))
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_gets_what_all_have_in_their_order() {
        let texts = |comm: &mut Threads| -> Vec<Vec<u8>> {
            // Messages on the way do not disturb it.
            comm.send((comm.rank() + 1) % comm.size(), b"hello").unwrap();
            let mine = vec![b'a'; comm.rank()];
            gather_all(comm, &mine).unwrap()
        };
        let all = on_each(3, texts);
        assert!(all.iter().all(|all| *all == [b"".to_vec(), b"a".to_vec(), b"aa".to_vec()]), "{all:?}");
        let answers = |of_first: bool| {
            on_each(3, move |comm| {
                let mine = (comm.rank() == 0) == of_first;
                answer_of_first(comm, mine).unwrap()
            })
        };
        assert_eq!((answers(true), answers(false)), (vec![true; 3], vec![false; 3]));
    }

    #[test]
    fn a_difference_or_an_error_of_one_rank_is_an_error_of_all() {
        let data = |comm: &mut Threads| {
            let images = if comm.rank() == 1 { "59 images" } else { "60 images" };
            agree(comm, &[("seed", "0".to_owned()), ("images", images.to_owned())]).unwrap_err().to_string()
        };
        for error in on_each(3, data) {
            assert_eq!(error, "rank 1: other images than rank 0: 59 images instead of 60 images");
        }
        let start = |comm: &mut Threads| {
            let mine = if comm.rank() == 2 { Err(gone(7)) } else { Ok(comm.rank()) };
            all_ok(comm, mine).unwrap_err().to_string()
        };
        let errors = on_each(3, start);
        assert_eq!(errors[0], "rank 2: rank 7: it has ended before the others");
        assert_eq!(errors[2], "rank 7: it has ended before the others", "its own error");
    }
}
