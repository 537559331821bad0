//! Loss and accuracy of a network on one split.

use super::batches::Batches;
use super::failure::Result;
use super::loss::Rows;
use super::network::Network;
use fngd_cli::protocol::Event;
use tch::{Kind, Tensor};

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Samples, or tokens of a sequence model.
    pub samples: u64,
    /// Mean cross entropy, without label smoothing.
    pub loss: f64,
    /// Share of samples whose largest logit is at the label.
    pub accuracy: f64,
    /// Share of samples whose label is among the five largest logits.
    pub top5: f64,
    /// How often samples of class `row` were taken for class `column`.
    pub confusion: Vec<Vec<u64>>,
}

impl Metrics {
    /// Accuracy within each class; NaN for a class without samples.
    pub fn per_class(&self) -> Vec<f64> {
        let row = |(class, row): (usize, &Vec<u64>)| row[class] as f64 / row.iter().sum::<u64>() as f64;
        self.confusion.iter().enumerate().map(row).collect()
    }

    pub fn to_event(&self, split: &str) -> Event {
        Event::Evaluated {
            split: split.to_owned(),
            samples: self.samples,
            loss: self.loss,
            accuracy: self.accuracy,
            top5: self.top5,
            // JSON has no NaN: a class that is not there has no right answer either.
            per_class: self.per_class().iter().map(|&share| if share.is_nan() { 0.0 } else { share }).collect(),
            confusion: self.confusion.clone(),
        }
    }
}

/// Evaluates `network` on all of `batches`. Leaves it in evaluation mode. Reads from the device once, at the end.
pub fn evaluate(network: &mut dyn Network, batches: &Batches) -> Result<Metrics> {
    let _no_grad = tch::no_grad_guard();
    network.set_training(false);
    let mut counts: Option<Counts> = None;
    let epoch = batches.epoch(0);
    for batch in epoch.from_slot(0) {
        let batch = batch?;
        let rows = Rows::of(&network.logits(&batch.images)?, &batch.labels)?;
        let counts = match &mut counts {
            Some(counts) => counts,
            None => counts.insert(Counts::zero(&rows)?),
        };
        counts.add(&rows)?;
    }
    counts.map_or_else(|| Err(super::failure::Failure::data("nothing to evaluate: the split is empty")), Counts::read)
}

/// Sums over batches, on the device.
struct Counts {
    rows: u64,
    classes: i64,
    loss: Tensor,
    top5: Tensor,
    /// `[classes²]`: label · classes + prediction.
    confusion: Tensor,
}

impl Counts {
    fn zero(rows: &Rows) -> Result<Self> {
        let (classes, device) = (rows.logits.size()[1], rows.logits.device());
        Ok(Self {
            rows: 0,
            classes,
            loss: Tensor::f_zeros([1], (Kind::Double, device))?,
            top5: Tensor::f_zeros([1], (Kind::Int64, device))?,
            confusion: Tensor::f_zeros([classes * classes], (Kind::Int64, device))?,
        })
    }

    fn add(&mut self, rows: &Rows) -> Result<()> {
        let count = rows.count();
        self.rows += count;
        let loss = rows.cross_entropy(0.0)?.f_to_kind(Kind::Double)?.f_mul_scalar(count as f64)?;
        let _ = self.loss.f_add_(&loss)?;
        let (_, five) = rows.logits.f_topk(self.classes.min(5), 1, true, false)?;
        let hits = five.f_eq_tensor(&rows.labels.f_unsqueeze(1)?)?.f_sum(Kind::Int64)?;
        let _ = self.top5.f_add_(&hits)?;
        let cell = rows.labels.f_mul_scalar(self.classes)?.f_add(&rows.logits.f_argmax(1, false)?)?;
        let _ = self.confusion.f_add_(&cell.f_bincount::<&Tensor>(None, self.classes * self.classes)?)?;
        Ok(())
    }

    fn read(self) -> Result<Metrics> {
        let total = self.rows as f64;
        let cells = Vec::<i64>::try_from(&self.confusion)?;
        let confusion: Vec<Vec<u64>> =
            cells.chunks(self.classes as usize).map(|row| row.iter().map(|&count| count as u64).collect()).collect();
        let correct: u64 = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
        Ok(Metrics {
            samples: self.rows,
            loss: f64::try_from(&self.loss)? / total,
            accuracy: correct as f64 / total,
            top5: i64::try_from(&self.top5)? as f64 / total,
            confusion,
        })
    }
}
