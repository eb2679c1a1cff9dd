//! The recipes for operators, which tests run as they are written there.

const OPERATING: &str = include_str!("../../.readme/operating.md");

/// Returns the only code block in this language.
pub(crate) fn code_block(language: &str) -> &'static str {
    let start = format!("\n```{language}\n");
    let mut blocks = OPERATING.split(start.as_str()).skip(1);
    let block = blocks.next().expect("a block in this language");
    assert!(blocks.next().is_none(), "several blocks in {language}");
    let (block, _) = block.split_once("\n```\n").expect("end of block");
    block
}

/// Replaces a part of a recipe that cannot be used as it is, such as a port.
pub(crate) fn with(recipe: &str, part: &str, replacement: &str) -> String {
    assert!(recipe.contains(part), "{part} in {recipe}");
    recipe.replace(part, replacement)
}
