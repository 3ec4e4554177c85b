//! Loss and accuracy, from logits.

use candle_core::Result;
use kernels::odds::Tally;
use nets::{Net, each_row};
use schema::Score;

use crate::data::Part;

/// The net's score on `part`.
pub fn score(net: &Net, part: &Part) -> Result<Score> {
    let mut tally = Tally::default();
    let mut labels = part.labels.iter();
    each_row(net, part.rows()?, |logits| {
        tally.add(logits, labels.next().copied().unwrap_or_default());
    })?;
    let (loss, accuracy) = tally.means();
    Ok(Score { loss, accuracy })
}
