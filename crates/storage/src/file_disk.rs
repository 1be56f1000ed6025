//! A real folder.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use crate::disk::{Disk, File};
use crate::error::StorageError;

const LOCK: &str = "lock";

/// A folder on a real disk, locked for this process as long as a handle to it lives.
#[derive(Clone, Debug)]
pub struct FileDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    directory: fs::File,
    /// Holds the lock; the system drops it with the process, however that ends. None for who only looks.
    _lock: Option<fs::File>,
}

impl FileDisk {
    /// Opens the folder, made if it is not there, and locks it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process (or another handle in this one) has it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StorageError> {
        let folder = folder.as_ref().to_path_buf();
        let name = folder.display().to_string();
        make_folder(&folder).map_err(|e| StorageError::io("make the folder", name.clone(), e))?;
        let lock = lock(&folder.join(LOCK), &name)?;
        let directory =
            fs::File::open(&folder).map_err(|e| StorageError::io("open the folder", name.clone(), e))?;
        directory.sync_all().map_err(|e| StorageError::io("sync the folder", name, e))?;
        Ok(Self { inner: Arc::new(Inner { folder, directory, _lock: Some(lock) }) })
    }

    /// A folder that is there, without its lock, for who changes nothing in it.
    pub(crate) fn look(folder: &Path) -> Result<Self, StorageError> {
        let folder = folder.to_path_buf();
        let name = folder.display().to_string();
        let directory = fs::File::open(&folder).map_err(|e| StorageError::io("open the folder", name, e))?;
        Ok(Self { inner: Arc::new(Inner { folder, directory, _lock: None }) })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(!name.contains('/') && !name.starts_with('.'), "{name} is not a plain file name");
        self.inner.folder.join(name)
    }
}

/// Makes the folder; where it is new, its own name is made durable too.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => fs::File::open(".")?.sync_all(),
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock(path: &Path, folder: &str) -> Result<fs::File, StorageError> {
    let error = |e| StorageError::io("open", path.display().to_string(), e);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(error)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // The number is only for the message; a lock file that can't be read is a lock all the same.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StorageError::Locked { folder: folder.to_owned(), pid });
        }
        Err(errno) => return Err(StorageError::io("lock", path.display().to_string(), errno.into())),
    }
    file.set_len(0).map_err(error)?;
    file.seek(SeekFrom::Start(0)).map_err(error)?;
    writeln!(file, "{}", std::process::id()).map_err(error)?;
    Ok(file)
}

impl Disk for FileDisk {
    type File = RealFile;

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let options = fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
        Ok(RealFile(options.open(self.path(name))?))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        Ok(RealFile(fs::OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.folder)? {
            let entry = entry?;
            if let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_file()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.directory.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.inner.folder.join(name).display().to_string()
    }
}

/// An open file of a [`FileDisk`].
#[derive(Debug)]
pub struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(into, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            // Zeros will be written anyway; reserving only keeps the blocks together and finds a full disk early.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }
}
