//! The integration tests, as one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue should end there")]

mod accumulation;
mod by_hand;
mod cases;
mod checkpoint;
mod cli;
mod cli_resume;
mod cli_sweep;
mod cli_sweep_beside;
mod cli_sweep_shares;
mod cli_tools;
mod data;
mod data_sources;
mod documents;
mod examples;
mod fused;
mod fused_order;
mod golden;
mod graph;
mod harness;
mod networks;
mod ops;
mod optim;
mod optim_more;
mod optim_steps;
mod pictures;
mod plan;
mod properties;
mod ranks;
mod report;
#[cfg(feature = "sanitize")]
mod sanitize;
mod shaders;
mod side_by_side;
mod special;
mod sweep_ranks;
mod train;
