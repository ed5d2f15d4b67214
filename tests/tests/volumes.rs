//! Volumes: what of the host a container sees through its bind mounts, and what it does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::bundle::Bundle;
use tests::husk::{self, Container};
use tests::leaks::watched;
use tests::output::{shell, until};

/// Longer than the guest believes a name (docs/virtio-fs.md).
const SOON: Duration = Duration::from_secs(20);

/// As many as the largest pods have.
const MANY: usize = 64;

/// A directory on a whole file system: L1's `/tmp` is a tmpfs.
fn volume() -> Result<(TempDir, PathBuf)> {
    let dir = TempDir::with_prefix_in("husk-volume-", "/var/tmp")?;
    let path = dir.path().join("data");
    fs::create_dir_all(path.join("sub"))?;
    fs::write(path.join("file"), "of the volume\n")?;
    Ok((dir, path))
}

/// A mount below a volume, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(arguments: &str, at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at)?;
        shell(&format!("mount {arguments} {}", at.display()))?.ok();
        Ok(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // One that stays is told of as a leak.
        let _outcome = shell(&format!("umount {}", self.0.display()));
    }
}

#[test]
fn directories_and_files_nest_and_can_be_read_only() -> Result<()> {
    watched(|| {
        let (_dir, data) = volume()?;
        let bundle = Bundle::busybox()?
            .bind(&data, "/v", &["rw"])?
            .bind(&data.join("file"), "/v/sub/inner", &["ro"])?
            .bind(&data.join("file"), "/etc/one", &[])?
            .bind(&data, "/made/here", &["ro"])?
            .bind(Path::new("/dev/null"), "/etc/passwd", &[])?
            .shell(
                "cat /v/sub/inner; echo new > /v/new; echo more >> /etc/one
                 echo x > /v/sub/inner; echo x > /made/here/x; rm /made/here/file
                 cat /made/here/new; wc -c < /etc/passwd; ls /v",
            )?;
        let out = husk::run(&bundle)?;
        ensure!(
            out.ok() == "of the volume\nnew\n0\nfile\nnew\nsub",
            "{out:?}"
        );
        ensure!(
            out.stderr.matches("Read-only file system").count() == 3,
            "{out:?}"
        );
        let kept = fs::read_to_string(data.join("file"))?;
        ensure!(kept == "of the volume\nmore\n", "{kept}");
        // The mount points that a container lacked are made in its root, as by runc.
        ensure!(bundle.path().join("rootfs/made/here").is_dir());
        Ok(())
    })
}

#[test]
fn what_the_host_has_mounted_below_a_volume_comes_along_but_not_its_kernel() -> Result<()> {
    watched(|| {
        let (_dir, data) = volume()?;
        let inner = Mounted::new("-t tmpfs tmpfs", data.join("inner"))?;
        fs::write(inner.0.join("deep"), "deep\n")?;
        let _proc = Mounted::new("-t proc proc", data.join("proc"))?;
        let bundle = Bundle::busybox()?
            .bind(&data, "/v", &[])?
            .bind(&data, "/ro", &["ro"])?
            .shell(
                "cat /v/inner/deep /ro/inner/deep; ls /v/proc | wc -l
                 echo x > /v/inner/x; echo x > /ro/inner/y",
            )?;
        let out = husk::run(&bundle)?;
        ensure!(out.stdout == "deep\ndeep\n0\n", "{out:?}");
        ensure!(
            out.stderr.contains("/ro/inner/y: Read-only file system"),
            "{out:?}"
        );
        ensure!(inner.0.join("x").exists() && !inner.0.join("y").exists());
        Ok(())
    })
}

#[test]
fn a_container_has_64_volumes_at_once() -> Result<()> {
    watched(|| {
        let (_dir, data) = volume()?;
        let mut bundle = Bundle::busybox()?;
        for number in 0..MANY {
            let source = data.join(number.to_string());
            fs::create_dir(&source)?;
            fs::write(source.join("n"), format!("{number}\n"))?;
            bundle = bundle.bind(&source, &format!("/v/{number}"), &[])?;
        }
        let script = "for n in $(seq 0 63); do cat /v/$n/n; echo $n > /v/$n/back; done | sha256sum";
        let out = husk::run(&bundle.shell(script)?)?;
        let expected = shell("seq 0 63 | sha256sum")?;
        ensure!(out.ok() == expected.ok(), "{out:?}");
        let last = fs::read_to_string(data.join("63/back"))?;
        ensure!(last == "63\n", "{last}");
        Ok(())
    })
}

#[test]
fn what_the_host_renames_and_deletes_is_seen() -> Result<()> {
    watched(|| {
        let (dir, data) = volume()?;
        let single = dir.path().join("single");
        fs::write(&single, "first\n")?;
        let bundle = Bundle::busybox()?
            .bind(&data, "/v", &[])?
            .bind(&single, "/single", &[])?
            .args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        let reads = |script: &str| container.exec(&["sh", "-c", script]);
        // Inside the volume names follow the host's.
        fs::rename(data.join("file"), data.join("renamed"))?;
        fs::remove_dir(data.join("sub"))?;
        let followed = || reads("ls /v").is_ok_and(|out| out.stdout == "renamed\n");
        until("the guest sees the new name", SOON, followed)?;
        // The volume itself is what it was, under whatever name.
        fs::rename(&data, dir.path().join("moved"))?;
        ensure!(reads("echo x > /v/after")?.status.success());
        ensure!(dir.path().join("moved/after").exists());
        // A file that the host replaces is another one, as with runc: the container keeps the old.
        fs::write(dir.path().join("second"), "second\n")?;
        fs::rename(dir.path().join("second"), &single)?;
        let kept = reads("cat /single")?;
        ensure!(kept.ok() == "first", "{kept:?}");
        fs::remove_dir_all(dir.path().join("moved"))?;
        let gone = || reads("ls /v").is_ok_and(|out| out.stdout.is_empty());
        until("the guest sees that all is gone", SOON, gone)?;
        let refused = reads("echo x > /v/none")?;
        ensure!(!refused.status.success(), "{refused:?}");
        Ok(())
    })
}

#[test]
fn links_of_the_host_are_followed_and_links_of_a_volume_lead_nowhere() -> Result<()> {
    watched(|| {
        let (dir, data) = volume()?;
        fs::write(dir.path().join("secret"), "secret\n")?;
        symlink(dir.path().join("secret"), data.join("out"))?;
        symlink("../secret", data.join("up"))?;
        symlink(&data, dir.path().join("link"))?;
        // The form in which a kubelet passes a subPath: a mount of the directory that it has opened without following links.
        let sub_path = Mounted::new(
            &format!("--bind {}", data.join("sub").display()),
            dir.path().join("sub-path"),
        )?;
        fs::write(data.join("sub/one"), "one\n")?;
        let bundle = Bundle::busybox()?
            .bind(&dir.path().join("link"), "/v", &[])?
            .bind(&sub_path.0, "/s", &[])?
            .shell("cat /v/file /s/one; cat /v/out; cat /v/up; cat /v/../../secret; ls /s/..")?;
        let out = husk::run(&bundle)?;
        ensure!(
            out.stdout.starts_with("of the volume\none\nbin\n"),
            "{out:?}"
        );
        ensure!(!out.stdout.contains("secret"), "{out:?}");
        Ok(())
    })
}

#[test]
fn what_cannot_be_a_volume_is_refused_by_name() -> Result<()> {
    watched(|| {
        let (dir, _data) = volume()?;
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket)?;
        let disk = dir.path().join("disk");
        shell(&format!("mknod {} b 7 200", disk.display()))?.ok();
        for (source, problem) in [
            (socket.as_path(), "is a socket of the host"),
            (disk.as_path(), "is a device of the host"),
            (Path::new("/proc/sys"), "controls the host's kernel"),
            (Path::new("/nowhere/at/all"), "cannot use /nowhere/at/all"),
        ] {
            let bundle = Bundle::busybox()?.bind(source, "/v", &[])?;
            let out = husk::run(&bundle)?;
            ensure!(!out.status.success(), "{} was taken", source.display());
            let text = out.fails_with(1);
            ensure!(text.contains(problem), "{text}");
        }
        Ok(())
    })
}

#[test]
fn mounts_do_not_spread_between_container_and_host() -> Result<()> {
    watched(|| {
        let (_dir, data) = volume()?;
        let caps = serde_json::json!(["CAP_SYS_ADMIN"]);
        let bundle = Bundle::busybox()?
            .bind(&data, "/v", &["rshared"])?
            .set("/process/capabilities/bounding", caps.clone())?
            .set("/process/capabilities/permitted", caps.clone())?
            .set("/process/capabilities/effective", caps)?
            .shell("mount -t tmpfs none /v/sub && echo inside > /v/sub/x && cat /v/sub/x")?;
        let out = husk::run(&bundle)?;
        ensure!(out.ok() == "inside", "{out:?}");
        ensure!(fs::read_dir(data.join("sub"))?.next().is_none());
        Ok(())
    })
}
