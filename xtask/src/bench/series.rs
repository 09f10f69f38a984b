//! Repeated measurements of one thing.

use serde_json::{Value, json};

/// Measurements, in the order in which they were taken.
#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    values: Vec<f64>,
}

impl Series {
    pub(super) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The value that was taken last; 0 when there is none.
    pub(super) fn last(&self) -> f64 {
        self.values.last().copied().unwrap_or_default()
    }

    /// The middle value, or the mean of the two in the middle; 0 when there is none.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            len if len % 2 == 1 => sorted[len / 2],
            len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        }
    }

    /// Each value over that of the other series that was taken beside it.
    pub(super) fn over(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(value, other)| value / other).collect() }
    }

    /// Each value less that of the other series that was taken beside it.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(value, other)| value - other).collect() }
    }

    /// Without the single values: for series of many.
    pub(super) fn summary(&self) -> Value {
        let mut value = self.to_json();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("all");
        }
        value
    }

    pub(super) fn to_json(&self) -> Value {
        let least = self.values.iter().copied().reduce(f64::min).map(round);
        let most = self.values.iter().copied().reduce(f64::max).map(round);
        let all: Vec<_> = self.values.iter().copied().map(round).collect();
        json!({ "median": round(self.median()), "min": least, "max": most, "all": all })
    }
}

/// To three digits after the point: what lies beyond is noise.
pub(super) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series { values: values.to_vec() }
    }

    #[test]
    fn medians() {
        assert_eq!(series(&[]).median(), 0.0);
        assert_eq!(series(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }

    #[test]
    fn ratios_and_differences_are_of_pairs() {
        let (values, others) = (series(&[3.0, 8.0]), series(&[2.0, 4.0]));
        assert_eq!(values.over(&others).values, [1.5, 2.0]);
        assert_eq!(values.minus(&others).values, [1.0, 4.0]);
    }
}
