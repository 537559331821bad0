//! compare.html: one file that loads nothing. Pictures are inline, the numbers are embedded, and a script draws them so that methods
//! can be hidden, axes changed and values read; without scripts the pictures stay.

use super::summary::Comparison;
use super::table::{self, Table};
use super::{figures, markdown};
use crate::launcher::plot::{color, dash, escape};
use serde_json::{Value, json};

/// The document. `command`: what was typed.
pub fn document(comparison: &Comparison, command: &str) -> String {
    let title = escape(&format!("{} on {}: optimizers compared", comparison.model, comparison.data));
    let paragraph = |text: &str| format!("<p>{}</p>\n", escape(text));
    let mut body = format!("<h1>{title}</h1>\n{}", paragraph(&table::head(comparison)));
    body += &html(&table::table(comparison));
    body += "<ul>\n";
    for (label, verdict) in table::verdicts(comparison) {
        let (label, reference) = (escape(&label), escape(&comparison.reference));
        body += &format!("<li><b>{label}</b> against {reference}: {}.</li>\n", escape(&verdict));
    }
    body += "</ul>\n";
    body += &format!("<p class=\"note\">{}</p>\n", escape(&table::about_intervals(comparison)));
    let tuning = escape(&table::about_tuning(comparison));
    body +=
        &if comparison.trials.is_none() { format!("<p><b>{tuning}</b></p>\n") } else { format!("<p>{tuning}</p>\n") };
    for failure in table::failures(comparison) {
        body += &format!("<p>{}</p>\n", escape(&failure));
    }
    body += "<h2>Loss and accuracy</h2>\n";
    body += &format!("<figure id=\"static\">{}</figure>\n", inline(&figures::curves(comparison).svg()));
    body += INTERACTIVE;
    body += &format!("<h2>Memory and time</h2>\n<figure>{}</figure>\n", inline(&figures::cost(comparison).svg()));
    body += "<h2>Every run</h2>\n";
    body += &html(&markdown::runs(comparison));
    if comparison.trials.is_some() {
        body += "<h2>Trials</h2>\n";
        body += &html(&markdown::trials(comparison));
    }
    body += "<h2>What differs between the optimizers</h2>\n";
    body += &html(&markdown::different(comparison));
    body += "<h2>Protocol</h2>\n<ul>\n";
    markdown::PROTOCOL.iter().for_each(|line| body += &format!("<li>{}</li>\n", escape(line)));
    let machine = escape(&markdown::machine(&comparison.machine));
    body +=
        &format!("</ul>\n<p class=\"note\">Machine: {machine}</p>\n<p><code>{}</code></p>\n", escape(command.trim()));
    // Inside a script only `<` can begin what ends it, or what keeps it from ending; in JSON it is found in strings alone.
    let data = numbers(comparison).to_string().replace('<', "\\u003c");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n{body}<script id=\"data\" type=\"application/json\">{data}</script>\n<script>\n{}</script>\n</body>\n</html>\n",
        include_str!("page.css"),
        include_str!("page.js")
    )
}

/// Filled by the script.
const INTERACTIVE: &str = "<div id=\"interactive\" hidden>\n<div id=\"legend\"></div>\n\
    <div id=\"controls\"><label>above <select id=\"upper\"></select></label><label>below <select id=\"lower\"></select></label>\
    <label><input type=\"checkbox\" id=\"log\" checked> logarithmic loss</label>\
    <label><input type=\"checkbox\" id=\"seeds\"> every seed</label></div>\n\
    <div class=\"panels\"><div class=\"panel\" data-x=\"epoch\" data-row=\"upper\"></div>\
    <div class=\"panel\" data-x=\"seconds\" data-row=\"upper\"></div>\
    <div class=\"panel\" data-x=\"epoch\" data-row=\"lower\"></div>\
    <div class=\"panel\" data-x=\"seconds\" data-row=\"lower\"></div></div>\n</div>\n<div id=\"tip\"></div>\n";

/// Everything, and the style of each method.
fn numbers(comparison: &Comparison) -> Value {
    let mut numbers = json!(comparison);
    for (style, method) in numbers["methods"].as_array_mut().into_iter().flatten().enumerate() {
        method["color"] = color(style).into();
        method["dash"] = dash(style).into();
    }
    numbers
}

/// An SVG as a part of a page, where its language goes without saying.
fn inline(svg: &str) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}

fn html(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String =
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell.trim_matches('`')))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<div class=\"wide\"><table>\n{}{rows}</table></div>\n", row(&table.headings, "th"))
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::comparison;
    use super::*;

    #[test]
    fn the_page_loads_nothing() {
        let page = document(&comparison(false), "fngd-cli compare 'a </script> b.onnx'");
        for address in ["http://", "https://", "src=", "href=", "@import", "url(", "fetch(", "XMLHttp"] {
            assert!(!page.contains(address), "{address}");
        }
    }

    #[test]
    fn the_page_has_the_numbers_and_its_tags_are_closed() {
        let mut hostile = comparison(true);
        hostile.methods[0].label = "a</script><b>".to_owned();
        let page = document(&hostile, "x");
        let (_, rest) = page.split_once("<script id=\"data\" type=\"application/json\">").unwrap();
        let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
        assert_eq!(data["methods"][0]["label"], "a</script><b>");
        assert_eq!(data["methods"][0]["runs"][0]["epochs"][3]["val_acc"], 0.82);
        for tag in ["html", "head", "body", "table", "svg", "figure", "script", "style", "ul", "div", "title", "h2"] {
            let count = |start: String| page.matches(&start).count();
            // The script itself writes tags; they are closed in it as well.
            assert_eq!(count(format!("<{tag}>")) + count(format!("<{tag} ")), count(format!("</{tag}>")), "{tag}");
        }
        assert!(!page.contains("a</script><b>"));
    }
}
