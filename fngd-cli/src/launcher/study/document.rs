//! A document that is written twice: as Markdown, and as one page of HTML that loads nothing.

use crate::launcher::plot::escape;

/// A piece of it.
#[derive(Debug, Clone)]
pub enum Block {
    Title(String),
    Heading(String),
    Paragraph(String),
    Bold(String),
    List(Vec<String>),
    Table { headings: Vec<String>, rows: Vec<Vec<String>> },
    Picture(Picture),
    Code(String),
}

/// A picture that is beside the document as `NAME.svg` and `NAME.png`.
#[derive(Debug, Clone)]
pub struct Picture {
    pub name: String,
    pub about: String,
    pub svg: String,
    pub png: Vec<u8>,
}

/// With the pictures beside it.
pub fn markdown(blocks: &[Block]) -> String {
    blocks.iter().map(|block| format!("{}\n\n", block.markdown())).collect::<String>().trim_end().to_owned() + "\n"
}

/// With the pictures in it.
pub fn html(title: &str, blocks: &[Block]) -> String {
    let body: String = blocks.iter().map(Block::html).collect();
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        include_str!("../compare/page.css")
    )
}

impl Block {
    fn markdown(&self) -> String {
        match self {
            Block::Title(text) => format!("# {text}"),
            Block::Heading(text) => format!("## {text}"),
            Block::Paragraph(text) => text.clone(),
            Block::Bold(text) => format!("**{text}**"),
            Block::List(items) => items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n"),
            Block::Table { headings, rows } => {
                let line = |cells: &[String]| {
                    format!("| {} |", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
                };
                let rule = format!("|{}", "---|".repeat(headings.len()));
                let lines = [line(headings), rule].into_iter().chain(rows.iter().map(|row| line(row)));
                lines.collect::<Vec<_>>().join("\n")
            }
            Block::Picture(picture) => format!("![{}]({}.png)", picture.about, picture.name),
            Block::Code(text) => format!("```\n{}\n```", text.trim_end()),
        }
    }

    fn html(&self) -> String {
        let row = |cells: &[String], tag: &str| {
            let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        match self {
            Block::Title(text) => format!("<h1>{}</h1>\n", escape(text)),
            Block::Heading(text) => format!("<h2>{}</h2>\n", escape(text)),
            Block::Paragraph(text) => format!("<p>{}</p>\n", escape(text)),
            Block::Bold(text) => format!("<p><b>{}</b></p>\n", escape(text)),
            Block::List(items) => {
                let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
                format!("<ul>\n{items}</ul>\n")
            }
            Block::Table { headings, rows } => {
                let rows: String = rows.iter().map(|cells| row(cells, "td")).collect();
                format!("<div class=\"wide\"><table>\n{}{rows}</table></div>\n", row(headings, "th"))
            }
            Block::Picture(picture) => format!("<figure>{}</figure>\n", picture.html()),
            Block::Code(text) => format!("<p><code>{}</code></p>\n", escape(text.trim_end())),
        }
    }
}

impl Picture {
    /// As lines where that is small; a matrix of thousands of cells as pixels.
    fn html(&self) -> String {
        const MOST_BYTES: usize = 200_000;
        if self.svg.len() <= MOST_BYTES {
            return self.svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
        }
        let (about, pixels) = (escape(&self.about), base64(&self.png));
        format!("<img alt=\"{about}\" style=\"max-width:100%\" src=\"data:image/png;base64,{pixels}\">")
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0u32, |bits, (place, byte)| bits | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(svg: &str) -> Vec<Block> {
        vec![
            Block::Title("a < b".into()),
            Block::Paragraph("p".into()),
            Block::List(vec!["x".into(), "y & z".into()]),
            Block::Table { headings: vec!["h".into(), "i".into()], rows: vec![vec!["1|2".into(), "3".into()]] },
            Block::Picture(Picture { name: "n".into(), about: "words".into(), svg: svg.into(), png: vec![1, 2, 3, 4] }),
            Block::Code("fngd-cli study\n".into()),
        ]
    }

    #[test]
    fn one_document_in_two_languages() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>";
        assert_eq!(
            markdown(&blocks(svg)),
            "# a < b\n\np\n\n- x\n- y & z\n\n| h | i |\n|---|---|\n| 1\\|2 | 3 |\n\n![words](n.png)\n\n```\nfngd-cli study\n```\n"
        );
        let page = html("a < b", &blocks(svg));
        assert!(
            page.contains("<h1>a &lt; b</h1>")
                && page.contains("<td>1|2</td>")
                && page.contains("<figure><svg></svg></figure>")
        );
        let large = format!("<svg>{}</svg>", " ".repeat(300_000));
        let page_of_pixels = html("a", &blocks(&large));
        assert!(page_of_pixels.contains("src=\"data:image/png;base64,AQIDBA==\"") && page_of_pixels.len() < 10_000);
        for page in [page, page_of_pixels] {
            for address in ["http://", "https://", "href=", "@import", "url(", "<script"] {
                assert!(!page.contains(address), "{address}");
            }
        }
    }

    #[test]
    fn base64_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
