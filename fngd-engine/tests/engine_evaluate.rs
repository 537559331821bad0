//! Metrics of a split equal those computed one sample at a time.

mod engine_support;

use engine_support::{CLASSES, SmallNetwork, digits};
use fngd_engine::evaluate::evaluate;
use fngd_engine::network::Network;
use tch::Tensor;

#[test]
fn metrics_equal_one_sample_at_a_time() {
    // 53 samples in batches of 8: the last batch is smaller.
    let (mut network, batches) = (SmallNetwork::new(1), digits(53, 8, false));
    let metrics = evaluate(&mut network, &batches).unwrap();

    let (mut loss, mut right, mut right_in_five) = (0.0, 0, 0);
    let mut confusion = vec![vec![0u64; CLASSES as usize]; CLASSES as usize];
    for single in digits(53, 1, false).epoch(0).from_slot(0) {
        let single = single.unwrap();
        network.set_training(false);
        let logits = Vec::<f32>::try_from(network.logits(&single.images).unwrap().view([-1])).unwrap();
        let label = i64::try_from(&single.labels).unwrap() as usize;
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        loss += total.ln() - f64::from(logits[label]);
        let larger = logits.iter().filter(|&&logit| logit > logits[label]).count();
        right += u64::from(larger == 0);
        right_in_five += u64::from(larger < 5);
        let chosen = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        confusion[label][chosen] += 1;
    }
    assert_eq!(metrics.samples, 53);
    assert!((metrics.loss - loss / 53.0).abs() < 1e-5, "{} and {}", metrics.loss, loss / 53.0);
    assert_eq!((metrics.accuracy, metrics.top5), (right as f64 / 53.0, right_in_five as f64 / 53.0));
    assert_eq!(metrics.confusion, confusion);
    for (class, share) in metrics.per_class().into_iter().enumerate() {
        let all: u64 = confusion[class].iter().sum();
        assert!(all > 0, "the digits hold every class");
        assert_eq!(share, confusion[class][class] as f64 / all as f64);
    }
}

#[test]
fn evaluation_changes_nothing() {
    let mut network = SmallNetwork::new(1);
    let copy =
        |network: &SmallNetwork| network.tensors().iter().map(|(_, tensor)| tensor.copy()).collect::<Vec<Tensor>>();
    let before = copy(&network);
    let first = evaluate(&mut network, &digits(20, 8, false)).unwrap();
    assert_eq!(first, evaluate(&mut network, &digits(20, 8, false)).unwrap());
    assert_eq!(before, copy(&network));
}
