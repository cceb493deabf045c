//! The universal scalability law, fitted to throughput against concurrency.
//!
//! N. J. Gunther, *Guerrilla Capacity Planning* (2007), chapter 4: of N at a time the throughput is
//! λN / (1 + σ(N − 1) + κN(N − 1)). λ is that of one, σ the share of the work that has to queue for
//! what is shared, κ what each pair costs that has to agree.

/// Fewer levels than this say nothing of three numbers.
pub(crate) const LEVELS_MIN: usize = 4;

const STEPS_MAX: usize = 200;
/// A step that gains less than this share of what is left is the last.
const GAIN_MIN: f64 = 1e-14;

/// The law with its numbers, none of them negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Law {
    /// Throughput of one at a time.
    pub(crate) lambda: f64,
    /// Contention.
    pub(crate) sigma: f64,
    /// Coherency.
    pub(crate) kappa: f64,
}

impl Law {
    /// By least squares on the throughput, from pairs of concurrency and throughput; none where
    /// there are too few of them.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < LEVELS_MIN || points.iter().any(|(_, x)| *x <= 0.0) {
            return None;
        }
        // What would be negative is nothing at all: the best of all that leave something out.
        let choices = [[true, true], [true, false], [false, true], [false, false]];
        let fits = choices.iter().filter_map(|free| Self::fit_some(points, *free));
        let possible = fits.filter(|law| law.lambda > 0.0 && law.sigma >= 0.0 && law.kappa >= 0.0);
        possible.min_by(|a, b| a.squares(points).total_cmp(&b.squares(points)))
    }

    /// With σ and κ as far as they are free, the others being 0.
    fn fit_some(points: &[(f64, f64)], [sigma, kappa]: [bool; 2]) -> Option<Self> {
        let used: Vec<usize> =
            [Some(0), sigma.then_some(1), kappa.then_some(2)].into_iter().flatten().collect();
        let mut law = Self::linearised(points, &used)?;
        let (mut damping, mut squares) = (1e-3, law.squares(points));
        // Levenberg's and Marquardt's steps.
        for _ in 0..STEPS_MAX {
            let Some(next) = law.step(points, &used, damping) else { break };
            let left = next.squares(points);
            if left < squares {
                let gain = squares - left;
                (law, squares, damping) = (next, left, damping / 10.0);
                if gain <= GAIN_MIN * squares {
                    break;
                }
            } else if damping > 1e12 {
                break;
            } else {
                damping *= 10.0;
            }
        }
        Some(law)
    }

    /// N / X is linear in 1/λ, σ/λ and κ/λ. With such weights its squares are about those of X.
    fn linearised(points: &[(f64, f64)], used: &[usize]) -> Option<Self> {
        let mut equations = Equations::new(used.len());
        for &(n, x) in points {
            let row = terms(n);
            equations.add(&pick(&row, used), n / x, (x * x / n).powi(2));
        }
        let [a, b, c] = spread_out(&equations.solve(0.0)?, used);
        Some(Self { lambda: 1.0 / a, sigma: b / a, kappa: c / a })
    }

    fn step(&self, points: &[(f64, f64)], used: &[usize], damping: f64) -> Option<Self> {
        let mut equations = Equations::new(used.len());
        for &(n, x) in points {
            let at = self.at(n);
            let divisor = self.lambda * n / at;
            let [_, queue, agree] = terms(n);
            let slopes = [at / self.lambda, -at * queue / divisor, -at * agree / divisor];
            equations.add(&pick(&slopes, used), x - at, 1.0);
        }
        let [lambda, sigma, kappa] = spread_out(&equations.solve(damping)?, used);
        Some(Self {
            lambda: self.lambda + lambda,
            sigma: self.sigma + sigma,
            kappa: self.kappa + kappa,
        })
    }

    /// The throughput of so many at a time.
    pub(crate) fn at(&self, n: f64) -> f64 {
        let [one, queue, agree] = terms(n);
        self.lambda * n / (one + self.sigma * queue + self.kappa * agree)
    }

    /// The concurrency of the greatest throughput; infinite where more never is less.
    pub(crate) fn peak(&self) -> f64 {
        ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt().max(1.0)
    }

    /// How far it is off at the worst of the points, as a share of what was measured.
    pub(crate) fn misfit(&self, points: &[(f64, f64)]) -> f64 {
        points.iter().map(|(n, x)| (self.at(*n) / x - 1.0).abs()).fold(0.0, f64::max)
    }

    fn squares(&self, points: &[(f64, f64)]) -> f64 {
        points.iter().map(|(n, x)| (x - self.at(*n)).powi(2)).sum()
    }
}

/// What 1, σ and κ stand before.
fn terms(n: f64) -> [f64; 3] {
    [1.0, n - 1.0, n * (n - 1.0)]
}

fn pick(all: &[f64; 3], used: &[usize]) -> Vec<f64> {
    used.iter().map(|index| all[*index]).collect()
}

fn spread_out(some: &[f64], used: &[usize]) -> [f64; 3] {
    let mut all = [0.0; 3];
    for (index, value) in used.iter().zip(some) {
        all[*index] = *value;
    }
    all
}

/// The normal equations of a linear problem of least squares.
struct Equations {
    /// Each with its right side behind it.
    rows: Vec<Vec<f64>>,
}

impl Equations {
    fn new(unknowns: usize) -> Self {
        Self { rows: vec![vec![0.0; unknowns + 1]; unknowns] }
    }

    fn add(&mut self, terms: &[f64], value: f64, weight: f64) {
        for (row, term) in self.rows.iter_mut().zip(terms) {
            for (sum, other) in row.iter_mut().zip(terms.iter().chain([&value])) {
                *sum += weight * term * other;
            }
        }
    }

    /// By Gauss's elimination, each diagonal being greater by a share; none where it is singular.
    fn solve(mut self, damping: f64) -> Option<Vec<f64>> {
        let unknowns = self.rows.len();
        for (index, row) in self.rows.iter_mut().enumerate() {
            row[index] *= 1.0 + damping;
            // The unknowns are of very different size.
            let scale = row[index];
            for value in row.iter_mut() {
                *value /= scale;
            }
        }
        for pivot in 0..unknowns {
            let greatest = (pivot..unknowns)
                .max_by(|a, b| self.rows[*a][pivot].abs().total_cmp(&self.rows[*b][pivot].abs()))?;
            self.rows.swap(pivot, greatest);
            let row = self.rows[pivot].clone();
            if row[pivot] == 0.0 || !row[pivot].is_finite() {
                return None;
            }
            for other in (0..unknowns).filter(|other| *other != pivot) {
                let share = self.rows[other][pivot] / row[pivot];
                for (value, of_pivot) in self.rows[other].iter_mut().zip(&row) {
                    *value -= share * of_pivot;
                }
            }
        }
        Some((0..unknowns).map(|at| self.rows[at][unknowns] / self.rows[at][at]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What R's `nls` says, with no number below 0.
    #[derive(serde::Deserialize)]
    struct Fitted {
        levels: Vec<f64>,
        throughput: Vec<f64>,
        lambda: f64,
        sigma: f64,
        kappa: f64,
        squares: f64,
    }

    #[test]
    fn r_says_the_same() {
        let fixture = include_str!("fixtures/scalability.json");
        let all: Vec<Fitted> = serde_json::from_str(fixture).unwrap();
        assert!(all.len() > 4);
        for theirs in all {
            let points: Vec<(f64, f64)> =
                theirs.levels.iter().copied().zip(theirs.throughput.iter().copied()).collect();
            let ours = Law::fit(&points).unwrap();
            let is_near = |a: f64, b: f64, of: f64| (a - b).abs() <= 1e-5 * of;
            assert!(is_near(ours.lambda, theirs.lambda, theirs.lambda), "{ours:?}");
            assert!(is_near(ours.sigma, theirs.sigma, theirs.sigma.max(0.01)), "{ours:?}");
            assert!(is_near(ours.kappa, theirs.kappa, theirs.kappa.max(1e-4)), "{ours:?}");
            assert!(ours.squares(&points) <= theirs.squares * (1.0 + 1e-9), "{ours:?}");
        }
    }

    #[test]
    fn numbers_of_the_law_are_found_again_with_their_peak() {
        let law = Law { lambda: 995.6, sigma: 0.0267, kappa: 0.000_769 };
        let points: Vec<(f64, f64)> =
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].map(|n| (n, law.at(n))).to_vec();
        let found = Law::fit(&points).unwrap();
        assert!((found.sigma - law.sigma).abs() < 1e-9 && (found.kappa - law.kappa).abs() < 1e-9);
        assert!((found.peak() - 35.58).abs() < 0.01 && found.misfit(&points) < 1e-9);
    }

    #[test]
    fn what_does_not_scale_at_all_and_what_scales_without_end_are_laws_as_well() {
        let of = |throughput: fn(f64) -> f64| {
            Law::fit(&[1.0, 2.0, 4.0, 8.0].map(|n| (n, throughput(n)))).unwrap()
        };
        let serial = of(|_| 500.0);
        assert!((serial.sigma - 1.0).abs() < 1e-6 && serial.kappa.abs() < 1e-9);
        let linear = of(|n| 500.0 * n);
        assert!(linear.sigma < 1e-9 && linear.kappa < 1e-9, "{linear:?}");
        let better_than_linear = of(|n| 500.0 * n * n.sqrt());
        assert_eq!((better_than_linear.sigma, better_than_linear.kappa), (0.0, 0.0));
        assert!(better_than_linear.peak().is_infinite());
    }

    #[test]
    fn too_few_levels_and_levels_of_nothing_are_not_fitted() {
        assert_eq!(Law::fit(&[(1.0, 1.0), (2.0, 2.0), (4.0, 3.0)]), None);
        assert_eq!(Law::fit(&[(1.0, 1.0), (2.0, 2.0), (4.0, 3.0), (8.0, 0.0)]), None);
    }
}
