//! Layers and models: functions that append nodes to a graph.

mod init;

pub use init::Init;
