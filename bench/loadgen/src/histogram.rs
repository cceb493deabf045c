//! Histograms on their way out and back in: V2 blobs, `.hgrm` text and summaries.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::outcome::Summary;

/// How finely `.hgrm` divides the rest up to 100%, each time half of it is passed.
const TICKS_PER_HALF: u32 = 5;

/// Of nanoseconds, in microseconds.
pub(crate) fn summary(nanoseconds: &Histogram<u64>) -> Summary {
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |quantile| us(nanoseconds.value_at_quantile(quantile));
    Summary {
        count: nanoseconds.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: us(nanoseconds.max()),
        mean: nanoseconds.mean() / 1e3,
    }
}

/// V2, deflated, base64.
pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a vector takes all, and the counts fit");
    STANDARD.encode(bytes)
}

/// The histogram in a blob, or what is wrong with it.
pub fn decode(blob: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(blob).map_err(|error| format!("a histogram: {error}"))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("a histogram: {error}"))
}

/// The percentiles of a histogram of nanoseconds, in microseconds, in the text format of
/// `HdrHistogram`'s own tools.
pub fn hgrm(nanoseconds: &Histogram<u64>) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("a string takes all");
        text.push('\n');
    };
    let mut count = 0;
    for value in nanoseconds.iter_quantiles(TICKS_PER_HALF) {
        count += value.count_since_last_iteration();
        let us = value.value_iterated_to() as f64 / 1e3;
        let quantile = value.quantile_iterated_to();
        if quantile < 1.0 {
            let inverse = 1.0 / (1.0 - quantile);
            line(format_args!("{us:12.3} {quantile:14.12} {count:10} {inverse:14.2}"));
        } else {
            line(format_args!("{us:12.3} {quantile:14.12} {count:10}"));
        }
    }
    let (mean, deviation) = (nanoseconds.mean() / 1e3, nanoseconds.stdev() / 1e3);
    let (max, total) = (nanoseconds.max() as f64 / 1e3, nanoseconds.len());
    line(format_args!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"));
    line(format_args!("#[Max     = {max:12.3}, Total count    = {total:12}]"));
    let (buckets, half) = (nanoseconds.buckets(), 2048);
    line(format_args!("#[Buckets = {buckets:12}, SubBuckets     = {half:12}]"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand() -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|us| histogram.record(us * 1000).unwrap());
        histogram
    }

    #[test]
    fn a_blob_comes_back_as_it_was() {
        assert_eq!(decode(&encode(&thousand())).unwrap(), thousand());
        assert!(decode("no blob").is_err());
        assert!(decode("AAAA").is_err());
    }

    #[test]
    fn percentiles_are_written_as_other_tools_read_them() {
        let text = hgrm(&thousand());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().count(), 4);
        let rows: Vec<Vec<f64>> = lines[2..]
            .iter()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let median = rows.iter().find(|row| (row[1] - 0.5).abs() < 1e-9).unwrap();
        assert_eq!((median[2], median[3]), (500.0, 2.0));
        assert!((median[0] - 500.0).abs() < 1.0);
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 1000.0));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
