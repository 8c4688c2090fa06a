//! What a file really is, by its first bytes, for messages: a page that says "Not found" under the name of an archive
//! is the most common damage of all.

/// What bytes are the start of, where that is known: "an HTML page", "a zip archive".
pub(crate) fn description(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 16] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\x1f\x8b", "a gzip file"),
        (b"BZh", "a bzip2 file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"Rar!", "a RAR archive"),
        (b"%PDF-", "a PDF file"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"version https://git-lfs", "a Git LFS pointer instead of the file that it stands for"),
        (b"\x80\x02", "a Python pickle"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(what);
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    if start.get(8..12) == Some(b"WEBP") {
        return Some("a WebP image");
    }
    let start = &start[..start.len().min(64)];
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    let begins = |tag: &[u8]| text.starts_with(tag);
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") {
        return Some("an HTML page");
    }
    if begins(b"<?xml") || begins(b"<svg") || begins(b"<error>") {
        return Some("an XML document");
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    (text.len() >= 8 && text.iter().all(is_text)).then_some("text")
}

#[cfg(test)]
mod tests {
    use super::description;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut tar = vec![0; 512];
        tar[..5].copy_from_slice(b"a.bin");
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], Option<&str>); 11] = [
            (b"<!DOCTYPE html><title>404</title>", Some("an HTML page")),
            (b"\xef\xbb\xbf\n  <HTML>", Some("an HTML page")),
            (b"<?xml version=\"1.0\"?><Error>", Some("an XML document")),
            (b"PK\x03\x04....", Some("a zip archive")),
            (b"\x1f\x8b\x08", Some("a gzip file")),
            (b"\x80\x02}q\x00", Some("a Python pickle")),
            (b"Moved Permanently\n", Some("text")),
            (&tar, Some("a tar archive")),
            (b"\0\0\x08\x03\0\0\0\x02", None),
            (&[7; 3073], None),
            (b"", None),
        ];
        for (start, want) in cases {
            assert_eq!(description(start), want, "{start:?}");
        }
    }
}
