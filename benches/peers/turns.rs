//! A program that takes turns with others, so that all are timed under the same load: it reads the name of a work from
//! each line of its input (`matmul 512`), runs the work again and again for a fifth of a second, and answers with the
//! median of the seconds that it took once, or with "failed: " and what is wrong.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

/// How long a work is repeated for one answer.
const ROUND: Duration = Duration::from_millis(200);

/// Runs a work so many times.
pub type Work = Box<dyn FnMut(usize) -> wgrad::Result<()>>;

/// Answers line by line until the input ends. `make` prepares the work of a name, the first time it is asked for. A work
/// is run until `at_a_time` has passed before the clock is read, since some take less than that costs.
pub fn take(at_a_time: Duration, make: impl Fn(&str) -> Result<Work, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let mut works: HashMap<String, Work> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        match answer(&mut works, &line?, at_a_time, &make) {
            Ok(seconds) => println!("{seconds:e}"),
            Err(error) => println!("failed: {error}"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn answer(
    works: &mut HashMap<String, Work>,
    line: &str,
    at_a_time: Duration,
    make: &impl Fn(&str) -> Result<Work, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    if !works.contains_key(line) {
        works.insert(line.to_owned(), make(line)?);
    }
    let work = works.get_mut(line).expect("inserted above");
    let started = Instant::now();
    work(1)?;
    let once = started.elapsed().as_secs_f64().max(1e-7);
    let runs = ((at_a_time.as_secs_f64() / once) as usize).max(1);
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || started.elapsed() < ROUND {
        let started = Instant::now();
        work(runs)?;
        times.push(started.elapsed().as_secs_f64() / runs as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
