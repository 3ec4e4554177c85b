//! The pages, from templates.

use artifact::{Failure, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use crate::facts::Facts;

const TEMPLATES: [(&str, &str); 2] =
    [("index.html", include_str!("../templates/index.html")), ("report.md", include_str!("../templates/report.md"))];

/// Each page's file name and text. `charts` are the runs' figures, ready for a page.
pub fn pages(facts: &Facts, charts: &[Vec<String>]) -> Result<Vec<(&'static str, String)>> {
    let bug = |e: minijinja::Error| Failure::failed(format_args!("{e:#}"), "report templates", "this is a bug; please report it");
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(bug)?);
    environment.add_filter("thousands", thousands);
    environment.add_filter("percent", |x: f64| format!("{:.1} %", x * 100.0));
    environment.add_filter("decimals", |x: f64| format!("{x:.4}"));
    let charts: Vec<Vec<Value>> = charts.iter().map(|run| run.iter().cloned().map(Value::from_safe_string).collect()).collect();
    let context = context! { facts => Serde(facts), charts, headline => facts.headline() };
    let mut pages = Vec::new();
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).map_err(bug)?;
        let page = environment.get_template(name).and_then(|t| t.render(&context));
        pages.push((name, page.map_err(bug)? + "\n"));
    }
    Ok(pages)
}

/// 422937 as 422,937.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_threes() {
        assert_eq!([0, 999, 1000, 422_937, 1_000_000].map(thousands), ["0", "999", "1,000", "422,937", "1,000,000"]);
    }
}
