//! Files: how their chunks are, and who keeps them.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::count;
use maud::{Markup, html};
use node::admin::FilesStatus;

pub fn body(view: &View<'_>) -> Markup {
    let files = view.statuses.iter().find_map(|s| s.files.as_ref());
    html! {
        h1 { "Files" }
        @match files {
            Some(files) => (found(files)),
            None => p.dim {
                "No file was written yet, or this node does not hold their names. Try "
                code { "althing fs put FILE /NAME" } "."
            },
        }
    }
}

fn found(files: &FilesStatus) -> Markup {
    let counts = [
        ("Files", files.files, false),
        ("Directories", files.directories, false),
        ("Chunks", files.chunks, false),
        ("Being written", files.writers, false),
        ("Chunks missing", files.missing, true),
        ("Chunks unreachable now", files.unreachable, true),
        ("Chunks with too few copies", files.short, true),
        ("Copies corrupt", files.corrupt, true),
        ("Copies under way", files.making, false),
    ];
    let servers: Vec<Vec<Markup>> = (files.servers.iter())
        .map(|(node, address, is_heard, has_room, held)| {
            vec![
                code(node),
                plain(address),
                html! {
                    @if *is_heard { span.pill.good { "heard" } } @else { span.pill.bad { "silent" } }
                    @if !has_room { " " span.pill.warn { "disk nearly full" } }
                },
                plain(count(*held)),
            ]
        })
        .collect();
    let faults: Vec<Vec<Markup>> = (files.faults.iter())
        .map(|(path, chunk, good, wanted)| {
            vec![
                plain(path),
                code(chunk),
                html! { span.bad[*good == 0] { (count(*good)) } " of " (count(*wanted)) },
            ]
        })
        .collect();
    html! {
        div.figures {
            @for (name, n, is_bad) in counts {
                div.figure {
                    span.name { (name) }
                    span.value.warn[is_bad && n > 0] { (count(n)) }
                }
            }
        }
        h2 { "Chunk servers" }
        (table(
            &[("Node", false), ("Chunks at", false), ("State", false), ("Chunks", true)],
            &servers,
            "No node keeps chunks.",
        ))
        h2 { "Chunks with something wrong" }
        (table(
            &[("File", false), ("Chunk", false), ("Good copies", true)],
            &faults,
            "None.",
        ))
    }
}
