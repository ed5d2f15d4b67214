//! Names of users, as the host knows them.

/// The name in `/etc/passwd`; the number if it has none.
pub(crate) fn owner_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names() {
        assert_eq!(owner_name(0), "root");
        assert_eq!(owner_name(u32::MAX - 7), (u32::MAX - 7).to_string());
    }
}
