//! A step of dual coordinate descent in one variable, for each loss.

/// A dual variable of a row and its surroundings.
#[derive(Clone, Copy)]
pub struct Coordinate {
    pub alpha: f32,
    /// C of the row.
    pub cost: f32,
    /// y wᵀx.
    pub margin: f32,
    /// xᵀx.
    pub square: f32,
}

/// The variable after the step, and how far it was from its optimum before.
#[derive(Clone, Copy)]
pub struct Stepped {
    pub alpha: f32,
    pub violation: f32,
}

/// The step of the squared hinge loss (Hsieh et al., algorithm 3). `None` if the variable is 0 and
/// will stay so: its gradient is above `highest`, the highest projected gradient of the last pass.
#[inline]
pub fn squared_hinge(of: Coordinate, highest: f32) -> Option<Stepped> {
    let Coordinate { alpha, cost, margin, square } = of;
    let diagonal = 0.5 / cost;
    let gradient = margin - 1.0 + diagonal * alpha;
    let mut projected = gradient;
    if alpha == 0.0 {
        if gradient > highest {
            return None;
        }
        projected = gradient.min(0.0);
    }
    let mut new = alpha;
    if projected.abs() > 1e-12 {
        new = (alpha - gradient / (square + diagonal)).max(0.0);
    }
    Some(Stepped { alpha: new, violation: projected })
}

/// Where each variable of the logistic loss starts: strictly between 0 and C.
pub fn logistic_start(cost: f32) -> f32 {
    (0.001 * cost).min(1e-8)
}

/// The step of the logistic loss: it minimises
/// α ln α + (C − α) ln(C − α) + ½ a (α − α₀)² + b (α − α₀), for the margin b and a = xᵀx, by Newton's
/// method on the smaller of α and C − α (Yu, Huang and Lin, algorithm 5).
#[inline]
pub fn logistic(of: Coordinate) -> Stepped {
    let Coordinate { alpha, cost, margin, square } = of;
    let [alpha, cost, margin, square] = [alpha, cost, margin, square].map(f64::from);

    let least = 1e-300_f64.max(cost * 1e-30);
    let other = (cost - alpha).max(least);
    let gradient = margin + (alpha.max(least) / other).ln();
    // From the side whose variable is smaller, where the logarithm is steep.
    let flip = square * (0.5 * cost - alpha) + margin < 0.0;
    let (start, slope) = if flip { (other, -margin) } else { (alpha.max(least), margin) };
    let mut z = start;
    if cost - z < 0.5 * cost {
        z *= 0.1;
    }
    let mut at = square * (z - start) + slope + (z / (cost - z)).ln();
    for _ in 0..100 {
        if at.abs() < 1e-8 {
            break;
        }
        let curvature = square + cost / (cost - z) / z;
        let next = z - at / curvature;
        z = if next <= 0.0 { z * 0.1 } else { next.min(cost - least) };
        at = square * (z - start) + slope + (z / (cost - z)).ln();
    }
    let new = if flip { cost - z } else { z };
    Stepped { alpha: narrow(new), violation: narrow(gradient.abs()) }
}

#[expect(clippy::cast_possible_truncation, reason = "the solver works with f32")]
const fn narrow(value: f64) -> f32 {
    value as f32
}
