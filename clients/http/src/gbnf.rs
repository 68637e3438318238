//! Grammars in GBNF, as llama.cpp and vLLM's clients write them, written over in Lark, which is what answers are held to here.
//!
//! Pure. Rules that never come back to themselves become terminals, so that each of their matches is found as one piece;
//! the others become rules, whose texts are looked for longest first: where one begins another, less may be allowed than the
//! grammar says. Whether the result can be enforced is the worker's to say. Called where shapes are read.

mod words;

use std::collections::BTreeMap;
use std::fmt::Write;

use protocol::Error;

use words::{Class, Word, words};

/// The most rules of a grammar.
const RULES_MAX: usize = 1000;

/// How deep groups may lie in groups.
const DEPTH_MAX: usize = 64;

/// What a rule is made of.
#[derive(Debug)]
enum Node {
    Text(String),
    Class(Class),
    /// Another rule, by its number.
    Rule(usize),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

/// Whether a text is a grammar in GBNF: it begins with a rule's name and what defines it.
pub fn is_gbnf(text: &str) -> bool {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix('#') {
        rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    let after_name = rest.trim_start_matches(words::in_name);
    after_name.len() < rest.len() && after_name.trim_start().starts_with(words::DEFINES)
}

/// Returns the grammar that means the same in Lark; `param` is what the client calls it.
pub fn lark(param: &str, gbnf: &str) -> Result<String, Error> {
    written(gbnf).map_err(|fault| Error::invalid(param, format!("'{param}' is no grammar in GBNF: {fault}.")))
}

fn written(gbnf: &str) -> Result<String, String> {
    let mut reader = Reader { words: words(gbnf)?, at: 0, numbers: BTreeMap::new() };
    let rules = reader.rules()?;
    let Some(&root) = reader.numbers.get("root") else { return Err("it has no rule 'root'".to_owned()) };
    let once = once(&rules);
    let mut lark = format!("start: {}\n", name(root, &once));
    for (number, node) in rules.iter().enumerate() {
        let _ = write!(lark, "{}: ", name(number, &once));
        write(node, &once, &mut lark);
        lark.push('\n');
    }
    Ok(lark)
}

struct Reader {
    words: Vec<Word>,
    at: usize,
    /// The rules by name, in the order in which they are named first.
    numbers: BTreeMap<String, usize>,
}

impl Reader {
    /// Reads all rules; of those that are defined twice, the last counts.
    fn rules(&mut self) -> Result<Vec<Node>, String> {
        let mut defined: BTreeMap<usize, Node> = BTreeMap::new();
        while let Some(word) = self.words.get(self.at) {
            let (Word::Name(name), Some(Word::Defines)) = (word.clone(), self.words.get(self.at + 1)) else {
                return Err(format!("a rule begins with a name and '{}'", words::DEFINES));
            };
            let number = self.number(&name)?;
            self.at += 2;
            let node = self.choices(0)?;
            defined.insert(number, node);
        }
        if let Some((name, _)) = self.numbers.iter().find(|(_, number)| !defined.contains_key(number)) {
            return Err(format!("no rule defines '{name}'"));
        }
        Ok(defined.into_values().collect())
    }

    fn number(&mut self, name: &str) -> Result<usize, String> {
        let next = self.numbers.len();
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if next == RULES_MAX {
            return Err(format!("it has more than {RULES_MAX} rules"));
        }
        self.numbers.insert(name.to_owned(), next);
        Ok(next)
    }

    fn choices(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its groups lie deeper than {DEPTH_MAX} in each other"));
        }
        let mut choices = vec![self.sequence(depth)?];
        while let Some(Word::Or) = self.words.get(self.at) {
            self.at += 1;
            choices.push(self.sequence(depth)?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Node::Any(choices) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(word) = self.words.get(self.at).cloned() {
            let ends = matches!(self.words.get(self.at + 1), Some(Word::Defines));
            let node = match word {
                Word::Name(_) if ends => break,
                Word::Or | Word::Close => break,
                Word::Name(name) => Node::Rule(self.number(&name)?),
                Word::Text(text) => Node::Text(text),
                Word::Class(class) => Node::Class(class),
                Word::Open => {
                    self.at += 1;
                    let inner = self.choices(depth + 1)?;
                    if self.words.get(self.at) != Some(&Word::Close) {
                        return Err("a group is not closed".to_owned());
                    }
                    inner
                }
                Word::Repeat(least, most) => match nodes.pop() {
                    Some(node) if !matches!(self.words[self.at - 1], Word::Repeat(..)) => {
                        Node::Repeat(Box::new(node), least, most)
                    }
                    _ => return Err("nothing stands before a repetition that can be repeated".to_owned()),
                },
                Word::Defines => return Err(format!("no name stands before '{}'", words::DEFINES)),
            };
            nodes.push(node);
            self.at += 1;
        }
        if depth == 0 && self.words.get(self.at) == Some(&Word::Close) {
            return Err("a group is closed that was not opened".to_owned());
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }
}

/// Which rules never come back to themselves, nor name one that does.
fn once(rules: &[Node]) -> Vec<bool> {
    let mut once = vec![false; rules.len()];
    loop {
        let more: Vec<usize> = (0..rules.len()).filter(|at| !once[*at] && only(&rules[*at], &once)).collect();
        if more.is_empty() {
            return once;
        }
        more.into_iter().for_each(|at| once[at] = true);
    }
}

/// Whether all rules that a node names are among `once`.
fn only(node: &Node, once: &[bool]) -> bool {
    match node {
        Node::Text(_) | Node::Class(_) => true,
        Node::Rule(number) => once[*number],
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().all(|node| only(node, once)),
        Node::Repeat(node, ..) => only(node, once),
    }
}

/// Terminals have names in capitals in Lark.
fn name(number: usize, once: &[bool]) -> String {
    if once[number] { format!("T{number}") } else { format!("r{number}") }
}

fn write(node: &Node, once: &[bool], lark: &mut String) {
    match node {
        Node::Text(text) => lark.push_str(&serde_json::Value::from(text.as_str()).to_string()),
        Node::Class(class) => class.write(lark),
        Node::Rule(number) => lark.push_str(&name(*number, once)),
        Node::All(nodes) if nodes.is_empty() => lark.push_str("\"\""),
        Node::All(nodes) => joined(nodes, " ", once, lark),
        Node::Any(nodes) => joined(nodes, " | ", once, lark),
        Node::Repeat(_, _, Some(0)) => lark.push_str("\"\""),
        Node::Repeat(node, least, most) => {
            joined(std::slice::from_ref(node), "", once, lark);
            let _ = match (least, most) {
                (0, None) => write!(lark, "*"),
                (1, None) => write!(lark, "+"),
                (0, Some(1)) => write!(lark, "?"),
                (least, None) => write!(lark, "{{{least},}}"),
                (least, Some(most)) => write!(lark, "{{{least},{most}}}"),
            };
        }
    }
}

fn joined(nodes: &[Node], between: &str, once: &[bool], lark: &mut String) {
    lark.push('(');
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            lark.push_str(between);
        }
        write(node, once, lark);
    }
    lark.push(')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(gbnf: &str) -> String {
        let error = lark("grammar", gbnf).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("grammar"));
        error.message
    }

    #[test]
    fn rules_that_never_come_back_to_themselves_become_terminals_and_the_others_rules() {
        let gbnf = "# numbers in brackets\nroot ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= root | num-1\nnum-1 ::= [0-9]+";
        let expected = "start: r0\n\
                        r0: (\"[\" ((r1 ((\",\" r1))*))? \"]\")\n\
                        r1: (r0 | T2)\n\
                        T2: (/[\\x{30}-\\x{39}]/)+\n";
        assert_eq!(lark("grammar", gbnf).unwrap(), expected);
    }

    #[test]
    fn a_rule_goes_on_over_lines_until_the_next_begins() {
        let lines = "root ::=\n  \"a\"\n  | other\n\nother ::= \"b\" # the end\n  \"c\"";
        assert_eq!(lark("grammar", lines).unwrap(), "start: T0\nT0: (\"a\" | T1)\nT1: (\"b\" \"c\")\n");
    }

    #[test]
    fn repetitions_classes_and_empty_choices_are_written_over() {
        let body =
            |gbnf: &str| lark("grammar", &format!("root ::= {gbnf}")).unwrap().split_once("T0: ").unwrap().1.to_owned();
        assert_eq!(body("\"a\"{2}"), "(\"a\"){2,2}\n");
        assert_eq!(body("\"a\"{2,}"), "(\"a\"){2,}\n");
        assert_eq!(body("\"a\"{,3}"), "(\"a\"){0,3}\n");
        assert_eq!(body("\"a\"{0}"), "\"\"\n");
        assert_eq!(body("[^\\n\\]\\x41-]"), "/[^\\x{a}\\x{5d}\\x{41}\\x{2d}]/\n");
        assert_eq!(body("."), "/(?s:.)/\n");
        assert_eq!(body("\"\\u00e9\\\"\" | "), "(\"\u{e9}\\\"\" | \"\")\n");
    }

    #[test]
    fn what_is_no_grammar_is_refused_with_the_reason() {
        for (gbnf, reason) in [
            ("root ::= this is (not valid", "a group is not closed"),
            ("root ::= \"a\")", "closed that was not opened"),
            ("root ::= a", "no rule defines 'a'"),
            ("start ::= \"a\"", "no rule 'root'"),
            ("\"a\"", "begins with a name"),
            ("root ::= *", "nothing stands before"),
            ("root ::= \"a\"**", "nothing stands before"),
            ("root ::= \"a", "is not ended"),
            ("root ::= [z-a]", "'z-a'"),
            ("root ::= \"a\"{3,2}", "repetition"),
            ("root ::= \"a\"{99999}", "repetition"),
            ("root ::= <think>", "'<'"),
        ] {
            assert!(fault(gbnf).contains(reason), "{gbnf}: {}", fault(gbnf));
        }
        assert!(fault(&format!("root ::= {}", "(".repeat(100_000))).contains("deeper"));
        let many: String = (0..=RULES_MAX).map(|at| format!("r{at} ::= \"a\"\n")).collect();
        assert!(fault(&many).contains("rules"));
    }

    #[test]
    fn a_grammar_in_gbnf_is_told_from_one_in_lark() {
        assert!(is_gbnf("# a comment\n  root-1  ::= \"a\""));
        assert!(!is_gbnf("start: \"a ::= b\"") && !is_gbnf("::= \"a\"") && !is_gbnf("# root ::= \"a\""));
    }
}
