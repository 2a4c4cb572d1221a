//! A message as Slack has it: Block Kit, and a text for notifications.
//!
//! Limits are those of <https://docs.slack.dev/reference/block-kit/blocks>: 50 blocks, 150 characters of a header, 3,000 of a section.

use serde_json::{Value, json};

use super::message::{Entry, Message, Section};
use super::words::cut;
use crate::project::Occasion;

const HEADER: usize = 150;
const SECTION: usize = 2_900;
const BLOCKS: usize = 45;

pub(super) fn payload(message: &Message) -> Value {
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": cut(&message.title, HEADER)}}),
        json!({"type": "context", "elements": [{"type": "mrkdwn", "text": escaped(&message.about)}]}),
    ];
    for section in &message.sections {
        blocks.extend(of_section(section).into_iter().map(markdown));
    }
    let left_out = blocks.len() > BLOCKS;
    blocks.truncate(BLOCKS);
    if left_out {
        blocks.push(markdown("and more: see `_lake.notifications`".to_owned()));
    }
    let look = message.look.iter().map(|command| format!("`{}`", escaped(command)));
    let link = message.link.iter().map(|link| linked(link));
    let end: Vec<String> = look.chain(link).collect();
    if !end.is_empty() {
        blocks.push(markdown(end.join("  ")));
    }
    json!({"text": escaped(&message.title), "blocks": blocks})
}

/// The texts of the blocks of a section: as many entries in each as it may hold.
fn of_section(section: &Section) -> Vec<String> {
    let sign = match section.occasion {
        Some(Occasion::Failure) => ":red_circle:",
        Some(Occasion::Warning) => ":large_yellow_circle:",
        Some(Occasion::Freshness) => ":hourglass:",
        Some(Occasion::Recovery) => ":large_green_circle:",
        None => ":wave:",
    };
    let mut texts = vec![format!("{sign} *{}*", section.title)];
    for line in section.entries.iter().map(of_entry).chain(section.more()) {
        match texts.last_mut() {
            Some(last) if last.chars().count() + line.chars().count() < SECTION => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => texts.push(cut(&line, SECTION)),
        }
    }
    texts
}

fn of_entry(entry: &Entry) -> String {
    let mut text = format!("• *{}*", escaped(&entry.name));
    if !entry.about.is_empty() {
        text.push_str(&format!(" ({})", escaped(&entry.about)));
    }
    text.push_str(&format!(": {}", escaped(&entry.text)));
    if let Some(place) = &entry.place {
        text.push_str(&format!("\n      {}", escaped(place)));
    }
    if let Some(waits) = &entry.waits {
        text.push_str(&format!("\n      {}", escaped(waits)));
    }
    if let Some(look) = &entry.look {
        text.push_str(&format!("\n      `{}`", escaped(look)));
    }
    text
}

fn markdown(text: String) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

/// A link, if it is one; else it is a text.
fn linked(link: &str) -> String {
    match url::Url::parse(link) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            format!("<{}|Open>", url.as_str().replace('|', "%7C").replace('>', "%3E"))
        }
        _ => escaped(link),
    }
}

/// What Slack reads as markup: <https://docs.slack.dev/messaging/formatting-message-text>.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{linked, of_section};
    use crate::alerts::message::{Entry, Section};

    #[test]
    fn long_sections_are_cut_into_blocks_that_slack_takes() {
        let entry = |at: usize| Entry {
            name: format!("test_{at}"),
            about: "test of a.b".to_owned(),
            text: "<!channel> & more ".repeat(40),
            place: None,
            waits: None,
            look: None,
        };
        let section = Section { occasion: None, title: "Failed", entries: (0..15).map(entry).collect(), more: 3 };
        let texts = of_section(&section);
        assert!(texts.len() > 3 && texts.iter().all(|text| text.chars().count() <= 3_000));
        assert!(texts.iter().all(|text| !text.contains("<!channel>")), "nobody is called by a message of an error");
        assert!(texts.last().unwrap().ends_with("and 3 more: see _lake.notifications"));
        assert_eq!(linked("https://ci/x|y>z"), "<https://ci/x%7Cy%3Ez|Open>");
        assert_eq!(linked("<b>"), "&lt;b&gt;");
    }
}
