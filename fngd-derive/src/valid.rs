//! What a well-formed struct may still get wrong.

use crate::ast::Module;
use syn::{Attribute, Error, Result};

/// Refuses attributes where they mean nothing.
pub fn check(module: &Module<'_>, attributes: &[Attribute]) -> Result<()> {
    if let Some(attribute) = attributes.iter().find(|attribute| attribute.path().is_ident("fngd")) {
        return Err(Error::new_spanned(attribute, "`#[fngd(...)]` belongs on a field, not on the struct"));
    }
    for field in &module.fields {
        if let Some(second) = field.skips.get(1) {
            return Err(Error::new(*second, format!("field `{}` is skipped twice", field.name)));
        }
    }
    Ok(())
}
