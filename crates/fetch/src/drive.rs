//! Google Drive's request for confirmation before it sends a file that it cannot scan for viruses.
//!
//! The page has a form, `<form id="download-form" action="ADDRESS" method="get">`, with hidden
//! fields. The action and the fields make up the address of the file.

use reqwest::Url;

/// The longest tag that is read, in bytes.
const LONGEST_TAG: usize = 4096;

/// The address that the form on the `page` at `url` leads to. A page may lead to its own host, or
/// from one of Google's hosts to another.
pub fn confirmed(url: &Url, page: &[u8]) -> Option<Url> {
    let page = String::from_utf8_lossy(page);
    let form = tags(&page, "form")
        .find(|(_, form)| attribute(form, "id").as_deref() == Some("download-form"));
    let (at, form) = form?;
    let end = page.get(at..)?.find("</form").map_or(page.len(), |end| at + end);
    let mut to = url.join(&attribute(form, "action")?).ok()?;
    let google = |url: &Url| {
        url.host_str().is_some_and(|host| {
            host.ends_with(".google.com") || host.ends_with(".googleusercontent.com")
        })
    };
    let trusted =
        to.host_str() == url.host_str() && to.port() == url.port() || google(url) && google(&to);
    if !trusted || to.scheme() != url.scheme() {
        return None;
    }
    for (_, input) in tags(page.get(at..end)?, "input") {
        if let (Some(name), Some(value)) = (attribute(input, "name"), attribute(input, "value")) {
            to.query_pairs_mut().append_pair(&name, &value);
        }
    }
    Some(to)
}

/// Each tag of this name: the position of its end, and its attributes.
fn tags<'p>(page: &'p str, name: &'p str) -> impl Iterator<Item = (usize, &'p str)> {
    page.match_indices('<').filter_map(move |(at, _)| {
        let rest = page.get(at + 1..)?;
        let attributes =
            rest.strip_prefix(name).filter(|rest| rest.starts_with(char::is_whitespace))?;
        // No tag on such a page is longer, and searching the rest of the page for the end of each
        // tag would take quadratic time.
        let end = attributes.bytes().take(LONGEST_TAG).position(|b| b == b'>')?;
        Some((at + 1 + name.len() + end, attributes.get(..end).unwrap_or_default()))
    })
}

/// The value of an attribute in double quotes.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = format!(" {name}=\"");
    let value = tag.get(tag.find(&start)? + start.len()..)?;
    let value = value.get(..value.find('"')?)?;
    Some(value.replace("&amp;", "&").replace("&quot;", "\"").replace("&#39;", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // As Google Drive has sent it since 2024.
    const PAGE: &str = r#"<!DOCTYPE html><html><body><form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
        <input type="submit" id="uc-download-link" value="Download anyway"/><input type="hidden" name="id" value="0B7Xk">
        <input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t&amp;u"></form>
        <form action="/search"><input name="q" value="no"></form></body></html>"#;

    fn asked(url: &str, page: &str) -> Option<String> {
        confirmed(&Url::parse(url).expect("a URL"), page.as_bytes()).map(|url| url.to_string())
    }

    #[test]
    fn the_form_s_fields_make_the_address() {
        let yes = asked("https://drive.google.com/uc?id=0B7Xk", PAGE);
        assert_eq!(
            yes.as_deref(),
            Some(
                "https://drive.usercontent.google.com/download?id=0B7Xk&export=download&confirm=t%26u"
            )
        );
    }

    #[test]
    fn a_page_leads_nowhere_else() {
        assert_eq!(asked("https://example.org/uc", PAGE), None);
        assert_eq!(
            asked(
                "https://drive.google.com/uc",
                &PAGE.replace("drive.usercontent.google.com", "google.com.evil.example")
            ),
            None
        );
        assert_eq!(
            asked(
                "https://drive.google.com/uc",
                &PAGE.replace("https://drive.us", "http://drive.us")
            ),
            None
        );
        assert_eq!(
            asked("https://drive.google.com/uc", "<html><form action=\"/x\"></form></html>"),
            None
        );
        assert_eq!(
            asked("http://127.0.0.1:1/a", "<form id=\"download-form\" action=\"/b\">").as_deref(),
            Some("http://127.0.0.1:1/b")
        );
    }
}
