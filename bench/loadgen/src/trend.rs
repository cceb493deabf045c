//! Whether values that follow each other have a trend (Mann 1945, Kendall 1975).

/// A trend is told only of so many values.
const VALUES_MIN: usize = 8;
/// Of the standard normal distribution: a chance of 1 in 100 that there is no trend.
const DEVIATIONS: f64 = 2.576;

/// By how much the second half differs from the first, if there is a monotonic trend and the
/// difference is more than `least`.
pub(crate) fn trend(values: &[f64], least: f64) -> Option<f64> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let count = values.len() as f64;
    let mut score = 0.0;
    for (number, earlier) in values.iter().enumerate() {
        for later in &values[number + 1..] {
            score += f64::from(i8::from(later > earlier) - i8::from(later < earlier));
        }
    }
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    if (f64::abs(score) - 1.0) / deviation < DEVIATIONS {
        return None;
    }
    let (first, second) = values.split_at(values.len() / 2);
    let mean = |half: &[f64]| half.iter().sum::<f64>() / half.len() as f64;
    let by = mean(second) / mean(first) - 1.0;
    (by.abs() > least).then_some(by)
}
