//! Augmentation against the textbook: the draws as documented, chained steps by hand, identities.

use wgrad::ops::{Augment, Border};
use wgrad::rng::{philox4x32, unit_f32};
use wgrad::{DType, Device, Graph, Plan, Program, Result, StepTable, Tensor};

use crate::cases::{self, Fill, input};
use crate::harness::{check, gpu};

const SEED: u64 = (7 << 32) | 9;

#[test]
fn augment() {
    check(cases::augment::cases());
}

fn run(device: &Device, x: &Tensor, augments: &[Augment], step: u32) -> Result<Vec<f64>> {
    let mut graph = Graph::new("augment");
    let mut y = graph.input("x", x.ty())?;
    let step_value = graph.scalar("step", DType::U32)?;
    for augment in augments {
        y = graph.augment(y, augment.clone(), SEED, step_value)?;
    }
    graph.output("y", y)?;
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.write("x", x)?;
    program.run("augment", &StepTable::new(1).constant("step", f64::from(step)))?;
    Ok(program.output("augment", "y")?.to_f64_vec())
}

fn images(shape: [usize; 4]) -> Tensor {
    input(shape, Fill::Uniform).tensor(5)
}

/// What is drawn for an image: crop (y, x), flip, radians, shift (y, x).
fn draw(augment: &Augment, step: u32, row: u32) -> ([i64; 2], bool, f64, [f64; 2]) {
    let a = philox4x32([row, 0, step, 3], [9, 7]);
    let b = philox4x32([row, 1, step, 3], [9, 7]);
    let padding = augment.crop_padding as i64;
    let crop = |word: u32| ((i64::from(word) * (2 * padding + 1)) >> 32) - padding;
    let symmetric = |word: u32| 2.0 * f64::from(unit_f32(word)) - 1.0;
    let flip = f64::from(a[2]) < augment.flip_probability * 4_294_967_296.0;
    let radians = symmetric(a[3]) * augment.max_rotation_degrees.to_radians();
    ([crop(a[0]), crop(a[1])], flip, radians, [b[0], b[1]].map(|word| symmetric(word) * augment.max_shift))
}

/// Textbook: for each pixel of the result, the place in the image that it comes from, and four neighbours there.
fn by_hand(x: &Tensor, augment: &Augment, step: u32) -> Vec<f64> {
    let [batch, channels, height, width]: [usize; 4] = x.shape().dims().try_into().expect("four axes");
    let data = x.to_f64_vec();
    let mut y = Vec::new();
    for n in 0..batch {
        let (crop, flip, radians, shift) = draw(augment, step, n as u32);
        for c in 0..channels {
            let pixel = |row: f64, column: f64| {
                let (held_row, held_column) =
                    (row.clamp(0.0, height as f64 - 1.0), column.clamp(0.0, width as f64 - 1.0));
                match &augment.border {
                    Border::Fill(fill) if held_row != row || held_column != column => fill[c],
                    _ => data[((n * channels + c) * height + held_row as usize) * width + held_column as usize],
                }
            };
            for i in 0..height {
                for j in 0..width {
                    let center = [(height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0];
                    // Content turns counter-clockwise as seen, where y points down: the place before turns back.
                    let (dy, dx) = (i as f64 - center[0] - shift[0], j as f64 - center[1] - shift[1]);
                    let row = center[0] + dx * radians.sin() + dy * radians.cos();
                    let mut column = center[1] + dx * radians.cos() - dy * radians.sin();
                    if flip {
                        column = width as f64 - 1.0 - column;
                    }
                    let (row, column) = (row + crop[0] as f64, column + crop[1] as f64);
                    let (top, left) = (row.floor(), column.floor());
                    let (v, u) = (row - top, column - left);
                    y.push(
                        pixel(top, left) * (1.0 - v) * (1.0 - u)
                            + pixel(top, left + 1.0) * (1.0 - v) * u
                            + pixel(top + 1.0, left) * v * (1.0 - u)
                            + pixel(top + 1.0, left + 1.0) * v * u,
                    );
                }
            }
        }
    }
    y
}

#[test]
fn crops_and_flips_are_exactly_those_drawn_on_every_device() -> Result<()> {
    let x = images([40, 2, 6, 5]);
    for border in [Border::Edge, Border::Fill(vec![-0.5, 0.25])] {
        let augment = Augment { crop_padding: 3, flip_probability: 0.5, border, ..Augment::default() };
        for step in [0, 11] {
            let want = by_hand(&x, &augment, step);
            assert_ne!(want, x.to_f64_vec());
            for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
                assert_eq!(run(device, &x, std::slice::from_ref(&augment), step)?, want, "{device}");
            }
        }
    }
    Ok(())
}

#[test]
fn rotations_and_shifts_interpolate_as_the_textbook_does() -> Result<()> {
    let x = images([24, 3, 11, 8]);
    for border in [Border::Edge, Border::Fill(vec![-0.5, 0.25, 3.0])] {
        let augment =
            Augment { crop_padding: 2, flip_probability: 0.5, max_rotation_degrees: 180.0, max_shift: 2.5, border };
        let want = by_hand(&x, &augment, 4);
        for (device, tolerance) in [(&Device::CpuF64, 1e-12), (&Device::Cpu, 1e-5), (gpu(), 1e-4)] {
            let got = run(device, &x, std::slice::from_ref(&augment), 4)?;
            for (index, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!((got - want).abs() <= tolerance, "{device}, element {index}: {got} for {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_asked_for_changes_nothing_and_two_flips_neither() -> Result<()> {
    let x = images([3, 1, 7, 6]);
    let flip = Augment { flip_probability: 1.0, ..Augment::default() };
    for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
        assert_eq!(run(device, &x, &[Augment::default()], 1)?, x.to_f64_vec());
        assert_ne!(run(device, &x, std::slice::from_ref(&flip), 1)?, x.to_f64_vec());
        assert_eq!(run(device, &x, &[flip.clone(), flip.clone()], 1)?, x.to_f64_vec());
    }
    Ok(())
}

#[test]
fn every_step_and_image_has_draws_of_its_own() -> Result<()> {
    // Images that are all alike, so that only the draws make them differ.
    let image: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let x = Tensor::f32([200, 1, 8, 8], image.repeat(200))?;
    let augment = Augment { crop_padding: 4, flip_probability: 0.5, ..Augment::default() };
    let augments = std::slice::from_ref(&augment);
    let (first, second) = (run(&Device::Cpu, &x, augments, 0)?, run(&Device::Cpu, &x, augments, 1)?);
    let distinct = |y: &[f64]| y.chunks(64).map(|y| format!("{y:?}")).collect::<std::collections::BTreeSet<_>>().len();
    // 9 · 9 · 2 outcomes; 200 draws meet about 114 of them.
    assert!((90..140).contains(&distinct(&first)), "{} different images", distinct(&first));
    let same = first.chunks(64).zip(second.chunks(64)).filter(|(a, b)| a == b).count();
    assert!(same < 10, "{same} of 200 images are the same in the next step");
    Ok(())
}

#[test]
fn no_gradient_flows_and_what_cannot_be_is_refused() -> Result<()> {
    let mut graph = Graph::new("augment");
    let x = graph.input_with_grad("x", [2, 2, 4, 4])?;
    let step = graph.scalar("step", DType::U32)?;
    for augment in [Augment::default(), Augment { flip_probability: 0.5, ..Augment::default() }] {
        let y = graph.augment(x, augment, 0, step)?;
        assert!(!graph.requires_grad(y));
    }
    let none = Augment::default();
    let refused = [
        Augment { flip_probability: 1.5, ..none.clone() },
        Augment { flip_probability: f64::NAN, ..none.clone() },
        Augment { max_rotation_degrees: -1.0, ..none.clone() },
        Augment { max_rotation_degrees: 181.0, ..none.clone() },
        Augment { max_shift: f64::INFINITY, ..none.clone() },
        Augment { crop_padding: 5, ..none.clone() },
        Augment { border: Border::Fill(vec![0.0]), ..none.clone() },
        Augment { border: Border::Fill(vec![0.0, f64::NAN]), ..none.clone() },
    ];
    for augment in refused {
        assert!(graph.augment(x, augment.clone(), 0, step).is_err(), "{augment:?}");
    }
    let flat = graph.input("flat", wgrad::TensorType::f32([2, 8]))?;
    assert!(graph.augment(flat, none, 0, step).is_err());
    Ok(())
}
