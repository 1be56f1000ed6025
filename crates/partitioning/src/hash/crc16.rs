//! CRC16 as Redis Cluster uses it: polynomial 0x1021, start 0, not reflected, no final inversion (XMODEM).

const POLYNOMIAL: u16 = 0x1021;

/// By first byte: what eight shifts make of it. Row r: of a byte with r more bytes behind it.
static TABLES: [[u16; 256]; 4] = tables();

const fn tables() -> [[u16; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut row = 1;
    while row < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[row - 1][byte];
            tables[row][byte] = before << 8 ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        row += 1;
    }
    tables
}

/// The checksum. Four bytes at a time, so that a key's length costs little.
#[must_use]
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    let (fours, rest) = bytes.as_chunks::<4>();
    for four in fours {
        let high = crc >> 8 ^ u16::from(four[0]);
        let low = crc & 0xff ^ u16::from(four[1]);
        crc = TABLES[3][usize::from(high)]
            ^ TABLES[2][usize::from(low)]
            ^ TABLES[1][usize::from(four[2])]
            ^ TABLES[0][usize::from(four[3])];
    }
    for byte in rest {
        crc = crc << 8 ^ TABLES[0][usize::from(crc >> 8 ^ u16::from(*byte))];
    }
    crc
}
