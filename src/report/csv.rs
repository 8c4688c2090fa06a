//! `metrics.csv`: one line an epoch, for spreadsheets.

use crate::train::EpochReport;

/// The table with a line of column names; numbers with as many digits as they need to be read back the same.
pub fn metrics_csv(epochs: &[EpochReport]) -> String {
    let mut text = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,images_per_second,is_best\n".to_owned();
    for report in epochs {
        let EpochReport { epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, images_per_second, is_best } =
            report;
        text += &format!(
            "{epoch},{train_loss},{train_accuracy},{val_loss},{val_accuracy},{lr},{images_per_second},{is_best}\n"
        );
    }
    text
}
