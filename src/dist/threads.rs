//! Ranks that are threads of one process: what tests put in the place of MPI. A network between them may be slow.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use web_time::{Duration, Instant};

use super::{Comm, Message, Transfer};
use crate::{Error, Result};

/// How long a rank waits for another. A test that comes to this has lost a rank.
const PATIENCE: Duration = Duration::from_secs(120);

enum Letter {
    Gathered(Vec<u8>),
    Message(Vec<u8>),
    /// Of a transfer with this tag.
    Tagged(u16, Vec<u8>),
}

/// What a rank sends to another, and when it is there.
struct Post {
    from: usize,
    letter: Letter,
    due: Instant,
}

/// Bytes, and when they are there.
type Arrivals = VecDeque<(Instant, Vec<u8>)>;

/// The network between ranks: messages pass one after the other over the link of the rank that sends them.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The time until a message of no length arrives.
    pub latency: Duration,
    /// Over each rank's link.
    pub bytes_per_second: f64,
}

/// One of several ranks within a process, each for a thread of its own.
pub struct Threads {
    rank: usize,
    to: Vec<Sender<Post>>,
    inbox: Receiver<Post>,
    link: Option<Link>,
    /// When the link has passed on all that was sent.
    link_free: Instant,
    /// Letters that came before they were asked for, from each rank, and when they are there.
    gathered: Vec<Arrivals>,
    messages: VecDeque<(usize, Vec<u8>)>,
    tagged: HashMap<(usize, u16), Arrivals>,
    /// Transfers on their way, and how many of the messages that come are there.
    in_flight: Vec<(Transfer, Vec<bool>)>,
}

impl Threads {
    /// A group of `size` ranks.
    pub fn group(size: usize) -> Vec<Threads> {
        Threads::linked(size, None)
    }

    /// A group on a network.
    pub fn group_over(size: usize, link: Link) -> Vec<Threads> {
        Threads::linked(size, Some(link))
    }

    fn linked(size: usize, link: Option<Link>) -> Vec<Threads> {
        let (to, inboxes): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let rank = |(rank, inbox)| Threads {
            rank,
            to: to.clone(),
            inbox,
            link,
            link_free: Instant::now(),
            gathered: vec![Default::default(); size],
            messages: Default::default(),
            tagged: Default::default(),
            in_flight: Default::default(),
        };
        inboxes.into_iter().enumerate().map(rank).collect()
    }

    fn post(&mut self, to: usize, letter: Letter) -> Result<()> {
        let mut due = Instant::now();
        if let Some(link) = self.link.filter(|_| to != self.rank) {
            let (Letter::Gathered(bytes) | Letter::Message(bytes) | Letter::Tagged(_, bytes)) = &letter;
            let seconds = bytes.len() as f64 / link.bytes_per_second;
            self.link_free = self.link_free.max(due) + Duration::from_secs_f64(seconds);
            due = self.link_free + link.latency;
        }
        self.to[to].send(Post { from: self.rank, letter, due }).map_err(|_| gone(to))
    }

    fn sort(&mut self, Post { from, letter, due }: Post) {
        match letter {
            Letter::Gathered(bytes) => self.gathered[from].push_back((due, bytes)),
            Letter::Message(bytes) => self.messages.push_back((from, bytes)),
            Letter::Tagged(tag, bytes) => self.tagged.entry((from, tag)).or_default().push_back((due, bytes)),
        }
    }

    /// Puts the messages that are there where they belong. Gives when the next one will be, where one is on its way.
    fn deliver(&mut self) -> Result<Option<Instant>> {
        while let Ok(post) = self.inbox.try_recv() {
            self.sort(post);
        }
        let (now, mut next) = (Instant::now(), None::<Instant>);
        for (transfer, is_there) in &mut self.in_flight {
            for (Message { rank, region, bytes: range }, is_there) in transfer.from.iter().zip(is_there) {
                let queue = self.tagged.entry((*rank, transfer.tag)).or_default();
                let Some((due, bytes)) = queue.front().filter(|_| !*is_there) else { continue };
                if *due > now {
                    next = Some(next.map_or(*due, |next| next.min(*due)));
                    continue;
                }
                if bytes.len() != range.len() {
                    let message = format!("it sent {} bytes where {} were expected", bytes.len(), range.len());
                    return Err(Error::Rank { rank: *rank, message });
                }
                transfer.memory[*region][range.clone()].copy_from_slice(bytes);
                *is_there = true;
                queue.pop_front();
            }
        }
        Ok(next)
    }

    fn take_complete(&mut self) -> Option<Transfer> {
        let complete = self.in_flight.iter().position(|(_, is_there)| !is_there.contains(&false))?;
        Some(self.in_flight.remove(complete).0)
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
                if let Some((due, bytes)) = self.gathered[from].pop_front() {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    break bytes;
                }
                let post = self.inbox.recv_timeout(PATIENCE).map_err(|_| gone(from))?;
                self.sort(post);
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
        while let Ok(post) = self.inbox.try_recv() {
            self.sort(post);
        }
        Ok(self.messages.pop_front())
    }

    fn start(&mut self, transfer: Transfer) -> Result<()> {
        for Message { rank, region, bytes } in &transfer.to {
            self.post(*rank, Letter::Tagged(transfer.tag, transfer.memory[*region][bytes.clone()].to_vec()))?;
        }
        let is_there = vec![false; transfer.from.len()];
        self.in_flight.push((transfer, is_there));
        Ok(())
    }

    fn test(&mut self) -> Result<Option<Transfer>> {
        self.deliver()?;
        Ok(self.take_complete())
    }

    fn wait(&mut self) -> Result<Option<Transfer>> {
        while !self.in_flight.is_empty() {
            let next = self.deliver()?;
            if let Some(transfer) = self.take_complete() {
                return Ok(Some(transfer));
            }
            let patience = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
            match self.inbox.recv_timeout(patience) {
                Ok(post) => self.sort(post),
                Err(_) if next.is_some() => {}
                Err(_) => return Err(gone(self.in_flight[0].0.from.first().map_or(0, |message| message.rank))),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::super::{Bytes, Region, agree, all_ok, answer_of_first, bytes_of_first, gather_all};
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
        let of_first = |comm: &mut Threads| {
            let mine = vec![comm.rank() as u8 + 1; 5 - comm.rank()];
            (bytes_of_first(comm, &mine).unwrap(), bytes_of_first(comm, &[]).unwrap())
        };
        assert_eq!(on_each(3, of_first), vec![(vec![1; 5], Vec::new()); 3]);
    }

    #[test]
    fn a_slow_network_takes_its_time_while_a_rank_does_something_else() {
        // 50 kB at 1 MB/s.
        let link = Link { latency: Duration::from_millis(10), bytes_per_second: 1e6 };
        let least = Duration::from_millis(60);
        std::thread::scope(|scope| {
            for mut comm in Threads::group_over(2, link) {
                scope.spawn(move || {
                    let (mut memory, other) = (Bytes::default(), 1 - comm.rank());
                    memory.resize(100_000);
                    memory[..50_000].fill(comm.rank() as u8 + 1);
                    let messages = |bytes| vec![Message { rank: other, region: 0, bytes }];
                    let (to, from) = (messages(0..50_000), messages(50_000..100_000));
                    let transfer = Transfer { tag: 3, memory: vec![Region::Own(memory)], to, from };
                    let started = Instant::now();
                    comm.start(transfer).unwrap();
                    assert!(comm.test().unwrap().is_none() || started.elapsed() >= least, "it is on its way");
                    let transfer = comm.wait().unwrap().unwrap();
                    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
                    assert!(transfer.memory[0][50_000..].iter().all(|&byte| usize::from(byte) == other + 1));
                    assert!(comm.wait().unwrap().is_none());
                });
            }
        });
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
