//! A small HTTP server on this machine that can misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a server does with a request for its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Sends what is asked for, ranges too.
    Good,
    /// Closes the connection after half of what is asked for, the first time.
    CutsOnce,
    /// Sends the whole file whatever range is asked for.
    KnowsNoRanges,
    /// Sends as many other bytes.
    WrongBytes,
    /// Sends a page that says something.
    Page,
    /// Answers 404.
    NotFound,
}

/// A server of one file under any name; it ends with the test's process.
pub struct Server {
    pub url: String,
    /// Each request: the path and the first byte that was asked for.
    requests: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Server {
    pub fn new(manner: Manner, file: &[u8]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, file) = (Arc::clone(&requests), file.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own business.
                let _ = answer(&stream.unwrap(), manner, &file, &log);
            }
        });
        Server { url, requests }
    }

    pub fn requests(&self) -> Vec<(String, usize)> {
        self.requests.lock().unwrap().clone()
    }
}

/// An address where nobody answers.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn answer(
    mut stream: &TcpStream,
    manner: Manner,
    file: &[u8],
    log: &Mutex<Vec<(String, usize)>>,
) -> std::io::Result<()> {
    let head: Vec<String> = BufReader::new(stream)
        .lines()
        .map(|line| line.unwrap_or_default())
        .take_while(|line| !line.is_empty())
        .collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let start = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0_usize);
    let is_first = {
        let mut log = log.lock().unwrap();
        log.push((path, start));
        log.len() == 1
    };
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
    };
    let (head, body) = match manner {
        Manner::NotFound => (head("404 Not Found", 0, ""), Vec::new()),
        Manner::Page => (head("200 OK", 15, ""), b"<p>Not here</p>".to_vec()),
        Manner::WrongBytes => (head("200 OK", file.len(), ""), file.iter().map(|byte| !byte).collect()),
        Manner::Good | Manner::CutsOnce if start > 0 => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
            (head("206 Partial Content", file.len() - start, &range), file[start..].to_vec())
        }
        Manner::Good | Manner::CutsOnce | Manner::KnowsNoRanges => (head("200 OK", file.len(), ""), file.to_vec()),
    };
    let sent = if manner == Manner::CutsOnce && is_first { body.len() / 2 } else { body.len() };
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[..sent])
}
