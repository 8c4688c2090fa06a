//! Fetching files, from servers on this machine that cut, lie and refuse.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use wgrad::data::fetch::Event;
use wgrad::data::{DataSource, Members, Published, PublishedFile};
use wgrad::{Error, Result};

use super::server::{Manner, Server, nobody};

fn file() -> Vec<u8> {
    (0..100_000_u32).map(|index| ((index * 7919) >> 5) as u8).collect()
}

fn published(bytes: &[u8], mirrors: &[&str]) -> Published {
    let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = PublishedFile { name: "file.gz".to_owned(), sha256, num_bytes: bytes.len() as u64 };
    let mirrors = mirrors.iter().map(|&mirror| mirror.to_owned()).collect();
    Published { files: vec![file], mirrors, members: None }
}

/// Fetches, and gives what was told on the way, without how far it is.
fn fetch(published: &Published, folder: &Path) -> (Result<()>, Vec<String>) {
    let mut events = Vec::new();
    let result = published.fetch_into(folder, &mut |event| match event {
        Event::Received { bytes, of } => assert!(0 < bytes && bytes <= of),
        Event::Present { .. } => events.push("present".to_owned()),
        Event::Asking { url, .. } => events.push(format!("asking {url}")),
        Event::Failed { reason, .. } => events.push(reason.to_owned()),
        Event::Done { .. } => events.push("done".to_owned()),
    });
    (result, events)
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_fetched_once() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), file());
    let server = Server::new(Manner::Good, &bytes);
    let published = published(&bytes, &[&format!("{}/some/where/", server.url)]);
    let place = folder.path().join("new/folder");
    let (result, events) = fetch(&published, &place);
    result.unwrap();
    assert_eq!(events, [format!("asking {}/some/where/file.gz", server.url), "done".to_owned()]);
    assert!(std::fs::read(place.join("file.gz")).unwrap() == bytes);
    assert_eq!(names(&place), ["file.gz"]);
    assert_eq!(fetch(&published, &place).1, ["present"]);
    assert_eq!(server.requests(), [("/some/where/file.gz".to_owned(), 0)]);
    // A file that is not what was published is fetched anew.
    std::fs::write(place.join("file.gz"), &bytes[1..]).unwrap();
    fetch(&published, &place).0.unwrap();
    assert!(std::fs::read(place.join("file.gz")).unwrap() == bytes);
}

#[test]
fn a_download_that_was_cut_off_goes_on_where_it_was() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), file());
    let server = Server::new(Manner::CutsOnce, &bytes);
    let (result, events) = fetch(&published(&bytes, &[&server.url]), folder.path());
    result.unwrap();
    assert!(events[1].starts_with("cut off after 50000 of 100000 bytes"), "{events:?}");
    assert_eq!(server.requests().iter().map(|(_, start)| *start).collect::<Vec<_>>(), [0, 50_000]);
    assert!(std::fs::read(folder.path().join("file.gz")).unwrap() == bytes);

    // As does one that an earlier call left, here from a mirror that answers neither with bytes nor in any other way.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.gz.part"), &bytes[..30_000]).unwrap();
    let (page, good) = (Server::new(Manner::Page, &bytes), Server::new(Manner::Good, &bytes));
    let (result, events) = fetch(&published(&bytes, &[&nobody(), &page.url, &good.url]), folder.path());
    result.unwrap();
    assert!(events.iter().any(|event| event.contains("offers 15 bytes where 100000")), "{events:?}");
    assert_eq!(good.requests()[0].1, 30_000, "a page did not take away what was here");
    assert!(std::fs::read(folder.path().join("file.gz")).unwrap() == bytes);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.gz.part"), &bytes[..30_000]).unwrap();
    let server = Server::new(Manner::KnowsNoRanges, &bytes);
    fetch(&published(&bytes, &[&server.url]), folder.path()).0.unwrap();
    assert_eq!(server.requests().len(), 1, "what came from the start is taken");
    assert!(std::fs::read(folder.path().join("file.gz")).unwrap() == bytes);
}

#[test]
fn a_part_with_other_bytes_is_thrown_away() {
    let bytes = file();
    for wrong in [vec![1; 30_000], vec![1; 100_000], vec![1; 100_001]] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file.gz.part"), wrong).unwrap();
        let server = Server::new(Manner::Good, &bytes);
        fetch(&published(&bytes, &[&server.url]), folder.path()).0.unwrap();
        assert!(std::fs::read(folder.path().join("file.gz")).unwrap() == bytes);
        assert_eq!(server.requests().last().unwrap().1, 0);
    }
}

#[test]
fn wrong_bytes_are_never_given_the_files_name() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), file());
    let wrong = Server::new(Manner::WrongBytes, &bytes);
    let (result, events) = fetch(&published(&bytes, &[&wrong.url]), folder.path());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("other bytes than were published") && error.contains(&wrong.url), "{error}");
    assert_eq!((events.len(), names(folder.path())), (2, vec![]), "asked once, nothing left: {events:?}");
    let good = Server::new(Manner::Good, &bytes);
    fetch(&published(&bytes, &[&wrong.url, &good.url]), folder.path()).0.unwrap();
    assert!(std::fs::read(folder.path().join("file.gz")).unwrap() == bytes);

    // What all came from one server, if in two pieces, is not asked of it again.
    let folder = tempfile::tempdir().unwrap();
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    let cuts = Server::new(Manner::CutsOnce, &other);
    let error = fetch(&published(&bytes, &[&cuts.url]), folder.path()).0.unwrap_err().to_string();
    assert_eq!((cuts.requests().len(), names(folder.path())), (2, vec![]), "{error}");
    assert_eq!(error.matches(&cuts.url).count(), 1, "a line a mirror: {error}");
}

#[test]
fn an_error_names_all_that_was_tried_and_what_to_do() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), file());
    let (missing, nobody) = (Server::new(Manner::NotFound, &bytes), nobody());
    let error = fetch(&published(&bytes, &[&missing.url, &nobody]), folder.path()).0.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Download { .. }) && !error.is_usage());
    let folder = folder.path().to_str().unwrap();
    for part in [&missing.url, &nobody, "404", "file.gz", folder, "another mirror"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_archive_gives_its_known_files_and_writes_nowhere_else() {
    let member = vec![9_u8; 300];
    let entry = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        // Written past the crate's checks, as whoever means harm would.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        if kind.is_symlink() {
            header.set_link_name("/tmp").unwrap();
        }
        header.set_cksum();
        (header, bytes.to_vec())
    };
    let archive = |entries: &[(tar::Header, Vec<u8>)]| {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        entries.iter().for_each(|(header, bytes)| tar.append(header, &bytes[..]).unwrap());
        tar.into_inner().unwrap().finish().unwrap()
    };
    let regular = tar::EntryType::Regular;
    let good = [
        entry("../../escaped.bin", regular, &member),
        entry("elsewhere", tar::EntryType::Symlink, b""),
        entry("pictures/a.bin", regular, &member),
        entry("pictures/readme", regular, b"read me"),
        entry("/absolute/b.bin", regular, &member),
    ];
    let fetch_members = |bytes: &[u8], folder: &Path| {
        let server = Server::new(Manner::Good, bytes);
        let mut published = published(bytes, &[&server.url]);
        let names = ["a.bin", "b.bin"].map(str::to_owned).to_vec();
        published.members = Some(Members { folder: "inner".to_owned(), names, num_bytes: vec![300; 2] });
        let first = fetch(&published, folder).0;
        (first, fetch(&published, folder).1)
    };
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/er");
    let (result, again) = fetch_members(&archive(&good), &folder);
    result.unwrap();
    assert_eq!(again, ["present"]);
    assert_eq!(
        (names(&folder), names(&folder.join("inner"))),
        (vec!["inner".into()], vec!["a.bin".into(), "b.bin".into()])
    );
    assert_eq!(names(parent.path()), ["deep"]);
    assert!(std::fs::read(folder.join("inner/b.bin")).unwrap() == member);

    let bad = [
        (vec![good[2].clone()], "b.bin in it"),
        (vec![good[2].clone(), entry("b.bin", regular, b"short")], "300 bytes, got 5 bytes"),
        (vec![good[2].clone(), entry("b.bin", tar::EntryType::Symlink, b"")], "no file"),
    ];
    for (entries, part) in bad {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch_members(&archive(&entries), folder.path()).0.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("file.gz"), "{error}");
    }
}

#[test]
fn what_is_published_is_complete() {
    for entry in DataSource::ENTRIES {
        let source = DataSource::named(entry.name).unwrap();
        let Some(Published { files, mirrors, members }) = source.get().published() else { continue };
        assert!(mirrors.iter().all(|mirror| mirror.ends_with('/') && mirror.starts_with("http")), "{mirrors:?}");
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        assert!(files.iter().all(|file| is_hash(&file.sha256) && file.num_bytes > 1000));
        match members {
            Some(members) => assert!(files.len() == 1 && members.names.len() == members.num_bytes.len()),
            None => assert_eq!(files.len(), 4, "{source}"),
        }
    }
}
