//! Where progress bars are drawn. `indicatif` fills a bar's last line with spaces, so that the `^C` by which a terminal
//! answers Ctrl-C comes on the line below; what is then taken away is that line, and the bar stays. Here the cursor stays
//! where the bar's text ends.

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressDrawTarget, TermLike};
use terminal::Term;

/// Times a second that bars are drawn.
const RATE: u8 = 8;

/// Standard output as a place for bars.
pub fn target() -> ProgressDrawTarget {
    let stdout = Term::buffered_stdout();
    if !stdout.is_term() {
        return ProgressDrawTarget::hidden();
    }
    ProgressDrawTarget::term_like_with_hz(Box::new(OpenEnded { terminal: stdout, filler: AtomicUsize::new(0) }), RATE)
}

/// A terminal to which the spaces at the end of a drawing are not written.
#[derive(Debug)]
struct OpenEnded<T> {
    terminal: T,
    /// Spaces that are only written if something follows: a line begins where the one before is full.
    filler: AtomicUsize,
}

impl<T: TermLike> TermLike for OpenEnded<T> {
    fn width(&self) -> u16 {
        self.terminal.width()
    }

    fn height(&self) -> u16 {
        self.terminal.height()
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        self.terminal.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        self.terminal.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        self.terminal.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        self.terminal.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> Result<()> {
        self.write_str("")?;
        self.terminal.write_line(text)
    }

    fn write_str(&self, text: &str) -> Result<()> {
        if !text.is_empty() && text.bytes().all(|byte| byte == b' ') {
            self.filler.fetch_add(text.len(), Ordering::Relaxed);
            return Ok(());
        }
        let filler = self.filler.swap(0, Ordering::Relaxed);
        self.terminal.write_str(&" ".repeat(filler))?;
        self.terminal.write_str(text)
    }

    fn clear_line(&self) -> Result<()> {
        self.terminal.clear_line()
    }

    fn flush(&self) -> Result<()> {
        self.filler.store(0, Ordering::Relaxed);
        self.terminal.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

    use super::*;

    /// A terminal of 20 columns that keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct Written(Arc<Mutex<String>>);

    impl Written {
        fn add(&self, text: &str) -> Result<()> {
            self.0.lock().expect("no test panics meanwhile").push_str(text);
            Ok(())
        }
    }

    impl TermLike for Written {
        fn width(&self) -> u16 {
            20
        }

        fn move_cursor_up(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> Result<()> {
            self.add(text)
        }

        fn write_str(&self, text: &str) -> Result<()> {
            self.add(text)
        }

        fn clear_line(&self) -> Result<()> {
            Ok(())
        }

        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_the_last_line_is_left_open() {
        let written = Written::default();
        let terminal = OpenEnded { terminal: written.clone(), filler: AtomicUsize::new(0) };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(terminal)));
        let style = ProgressStyle::with_template("{prefix} {pos}").expect("a template");
        let bar = |prefix: &'static str| bars.add(ProgressBar::new(9).with_style(style.clone()).with_prefix(prefix));
        let (first, second) = (bar("first"), bar("second"));
        first.tick();
        second.tick();
        let text = written.0.lock().expect("no test panics meanwhile").clone();
        assert!(text.ends_with(&format!("{:20}{}", "first 0", "second 0")), "{text:?}");
    }
}
