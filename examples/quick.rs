use wgrad::data::{self, Normalize, DatasetName};
use wgrad::nn::LeNet5;
use wgrad::optim::Optimizer;
use wgrad::train::{Session, SessionOptions, FitOptions, fit, Observer, EpochReport, schedule::Schedule};
struct P;
impl Observer for P { fn epoch(&mut self, r: &EpochReport) -> wgrad::Result<()> { println!("{r:?}"); Ok(()) } }
fn main() -> wgrad::Result<()> {
    let t = std::time::Instant::now();
    let dev = std::env::args().nth(1).unwrap_or("cpu".into());
    let epochs: u64 = std::env::args().nth(2).map_or(4, |s| s.parse().expect("n"));
    let limit: usize = std::env::args().nth(3).map_or(10000, |s| s.parse().expect("n"));
    let mut splits = data::load(DatasetName::FashionMnist, None)?;
    splits.train.limit(limit); splits.test.limit(1000);
    let (device, why) = wgrad::Device::select(&dev)?;
    println!("{device} {why} {:?}", t.elapsed());
    let model = LeNet5::new(10);
    let mut s = Session::new(&device, &SessionOptions { model: &model, train: &splits.train, validation: None, test: &splits.test, batch_size: 64, eval_batch_size: 500, normalize: Normalize::None.stats(DatasetName::FashionMnist), optimizer: Optimizer::sgd_momentum(0.9), shuffle: true, seed: 0 })?;
    println!("session {:?}", t.elapsed());
    if std::env::args().nth(4).is_some() { println!("{}", s.program().plans()[0]); }
    let o = fit(&mut s, &FitOptions { epochs, lr: 0.01, schedule: Schedule::constant(), early_stopping: None }, &mut P)?;
    println!("{o:?} {:?}", t.elapsed());
    println!("losses {:?}", &s.step_losses()?[..5]);
    Ok(())
}
