//! How fast something grows: the exponent k of the power law c·xᵏ through its larger half.

/// Least squares through the logarithms of the larger half of the points, at least two, the middle one of an odd number included.
/// `None` if one of them is not positive: then it is lost in the noise, and has no exponent.
pub fn exponent(sizes: &[f64], values: &[f64]) -> Option<f64> {
    let first = sizes.len() - (sizes.len() / 2 + 1).min(sizes.len());
    let points: Vec<(f64, f64)> = sizes[first..].iter().copied().zip(values[first..].iter().copied()).collect();
    if points.len() < 2 || points.iter().any(|(size, value)| !(*size > 0.0 && *value > 0.0 && value.is_finite())) {
        return None;
    }
    let points: Vec<(f64, f64)> = points.iter().map(|(size, value)| (size.ln(), value.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (mean_size, mean_value) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|(size, value)| (size - mean_size) * (value - mean_value)).sum();
    let variance: f64 = points.iter().map(|(size, _)| (size - mean_size).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_found() {
        let sizes = [8.0, 16.0, 32.0, 64.0, 128.0];
        for power in [0.0, 1.0, 2.5, -1.0] {
            let values = sizes.map(|size: f64| 0.3 * size.powf(power));
            let found = exponent(&sizes, &values).unwrap();
            assert!((found - power).abs() < 1e-12, "{power}: {found}");
        }
    }

    #[test]
    fn only_the_larger_half_counts() {
        // A constant cost hides the growth at first.
        let sizes = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert!((exponent(&sizes, &[900.0, 500.0, 16.0, 64.0, 256.0]).unwrap() - 2.0).abs() < 1e-12);
        assert!((exponent(&sizes[..4], &[-1.0, 4.0, 16.0, 64.0]).unwrap() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn noise_has_no_exponent() {
        assert_eq!(exponent(&[1.0, 2.0, 4.0], &[1.0, -0.5, 2.0]), None);
        assert_eq!(exponent(&[1.0, 2.0], &[1.0, f64::NAN]), None);
        assert_eq!(exponent(&[1.0], &[1.0]), None);
        assert_eq!(exponent(&[2.0, 2.0], &[1.0, 3.0]), None);
    }
}
