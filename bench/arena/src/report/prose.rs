//! Markdown of our own sentences as HTML. Workload files and servers bring text, too: what looks
//! like HTML in it is shown, and nothing links anywhere.

use maud::{Markup, PreEscaped};
use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};

pub(super) fn html(markdown: &str) -> Markup {
    let shown = Parser::new(markdown).filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::Link { .. } | Tag::Image { .. })
        | Event::End(TagEnd::Link | TagEnd::Image) => None,
        other => Some(other),
    });
    let mut text = String::new();
    html::push_html(&mut text, shown);
    PreEscaped(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_brings_neither_markup_nor_links() {
        let text = html("a <script>x</script> `b < c` [d](javascript:e) ![f](http://g/h)").0;
        let expected = "<p>a &lt;script&gt;x&lt;/script&gt; <code>b &lt; c</code> d f</p>\n";
        assert_eq!(text, expected);
        assert_eq!(html("<div>x").0, "&lt;div&gt;x");
    }
}
