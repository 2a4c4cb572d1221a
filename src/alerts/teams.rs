//! A message as a workflow of Microsoft Teams takes it: an Adaptive Card.
//!
//! Texts are runs of a `RichTextBlock`, which Teams shows as they are: names with `_` are no markup there.
//! The card stays below 28 KB: <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>.

use serde_json::{Value, json};

use super::message::{Entry, Message, Section};
use super::words::cut;
use crate::project::Occasion;

/// Bytes of all sections together.
const BYTES: usize = 22_000;

pub(super) fn payload(message: &Message) -> Value {
    let mut body = vec![
        json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": cut(&message.title, 300), "size": "Large", "weight": "Bolder"}]}),
        rich(vec![subtle(&message.about)]),
    ];
    let mut left = BYTES;
    for section in &message.sections {
        body.push(of_title(section));
        let more = section.more().map(|more| vec![rich(vec![subtle(&more)])]);
        for blocks in section.entries.iter().map(of_entry).chain(more) {
            let size: usize = blocks.iter().map(|block| block.to_string().len()).sum();
            if size > left {
                body.push(rich(vec![subtle("and more: see _lake.notifications")]));
                left = 0;
                break;
            }
            left -= size;
            body.extend(blocks);
        }
    }
    body.extend(message.look.iter().map(|command| rich(vec![code(command)])));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "msteams": {"width": "Full"}, "body": body,
    });
    let link = message.link.as_ref().and_then(|link| url::Url::parse(link).ok());
    if let Some(url) = link.filter(|url| matches!(url.scheme(), "http" | "https")) {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": "Open", "url": url.as_str()}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
        }],
    })
}

fn of_title(section: &Section) -> Value {
    let color = match section.occasion {
        Some(Occasion::Failure) => "Attention",
        Some(Occasion::Warning | Occasion::Freshness) => "Warning",
        Some(Occasion::Recovery) => "Good",
        None => "Accent",
    };
    let run = json!({"type": "TextRun", "text": section.title, "weight": "Bolder", "color": color});
    json!({"type": "RichTextBlock", "separator": true, "spacing": "Medium", "inlines": [run]})
}

/// Blocks that stand close together, one for each line: a run has no lines of its own.
fn of_entry(entry: &Entry) -> Vec<Value> {
    let mut runs = vec![json!({"type": "TextRun", "text": entry.name, "weight": "Bolder"})];
    if !entry.about.is_empty() {
        runs.push(subtle(&format!(" ({})", entry.about)));
    }
    let mut lines = entry.text.lines();
    runs.push(plain(&format!(": {}", lines.next().unwrap_or_default())));
    let below = lines.map(plain).chain(entry.place.iter().chain(&entry.waits).map(|line| subtle(line)));
    let below = below.chain(entry.look.iter().map(|look| code(look))).map(|run| {
        let mut block = rich(vec![run]);
        block["spacing"] = "None".into();
        block
    });
    std::iter::once(rich(runs)).chain(below).collect()
}

fn rich(inlines: Vec<Value>) -> Value {
    json!({"type": "RichTextBlock", "inlines": inlines})
}

fn plain(text: &str) -> Value {
    json!({"type": "TextRun", "text": text})
}

fn subtle(text: &str) -> Value {
    json!({"type": "TextRun", "text": text, "isSubtle": true})
}

fn code(text: &str) -> Value {
    json!({"type": "TextRun", "text": text, "fontType": "Monospace"})
}
