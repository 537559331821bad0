//! Random streams. Known answers come from `../make_random.py`: a run repeats on every platform and with every later version.

use fngd_core::random::Stream;
use std::collections::HashSet;

#[test]
fn known_answers() {
    assert_eq!(Stream::new(0, "", &[]).seed_u64(), 4854684122418926431);
    assert_eq!(Stream::new(42, "shuffle", &[3]).permutation(10), [4, 2, 8, 9, 0, 1, 3, 5, 7, 6]);
    assert_eq!(Stream::new(42, "augment", &[3, 17]).integers(6, 9), [7, 2, 6, 2, 0, 4]);
    assert_eq!(Stream::new(u64::MAX, "uniform", &[0]).uniform(2), [0.4890100709503531, 0.5131560917278335]);
    // Half of all draws are refused at this bound, so the refusal shows.
    let large = [4686467572165140540, 7151584910377924799, 2488140608800658892, 3043679259497240697];
    assert_eq!(Stream::new(1, "large", &[]).integers(4, (1 << 63) + 1), large);
}

#[test]
fn other_arguments_give_other_streams() {
    let arguments: [(u64, &str, &[u64]); 7] = [
        (0, "a", &[]),
        (1, "a", &[]),
        (0, "b", &[]),
        (0, "ab", &[]),
        (0, "a", &[0]),
        (0, "a", &[0, 0]),
        (0, "a", &[1]),
    ];
    let firsts: HashSet<u64> =
        arguments.iter().map(|(seed, purpose, counters)| Stream::new(*seed, purpose, counters).seed_u64()).collect();
    assert_eq!(firsts.len(), arguments.len());
}

#[test]
fn permutations_hold_every_number_once() {
    for count in [0, 1, 2, 1000] {
        let mut order = Stream::new(1, "order", &[]).permutation(count);
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..count as i64));
    }
}

#[test]
fn every_order_of_three_is_equally_likely() {
    let mut counts = std::collections::HashMap::new();
    for draw in 0..6000 {
        *counts.entry(Stream::new(5, "orders", &[draw]).permutation(3)).or_insert(0) += 1;
    }
    // 1000 each; the standard deviation is 29.
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn numbers_fill_their_ranges_evenly() {
    let uniform = Stream::new(2, "uniform", &[]).uniform(10_000);
    assert!(uniform.iter().all(|value| (0.0..1.0).contains(value)));
    let mean = uniform.iter().sum::<f64>() / 1e4;
    assert!((mean - 0.5).abs() < 0.015, "mean {mean}");

    let integers = Stream::new(2, "integers", &[]).integers(10_000, 10);
    for value in 0..10 {
        let count = integers.iter().filter(|&&found| found == value).count();
        assert!((850..1150).contains(&count), "{value} came {count} times");
    }
    assert_eq!(Stream::new(2, "one", &[]).integers(3, 1), [0, 0, 0]);
}
