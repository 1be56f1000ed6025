//! Planted bugs: known mistakes, each with the scenario in which it must be caught.

use keypact_protocol::Plant;
use keypact_recovery::plant as recovery;

/// Whether this build has the planted bugs in it (feature `plant`).
pub const PLANTS_BUILT_IN: bool = cfg!(feature = "plant");

/// One planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlantInfo {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong with it, one line.
    pub about: &'static str,
    /// The scenario that is run if none is named.
    pub scenario: &'static str,
    plant: Which,
}

/// Whose seam it is. `keypact-recovery` depends on nothing of ours, and so has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Protocol(Plant),
    Recovery(recovery::Plant),
}

/// All planted bugs, whether or not this build has them in it. A build without them can list, but not run them.
pub fn plants() -> impl Iterator<Item = PlantInfo> {
    let protocol = Plant::ALL.iter().map(|&plant| PlantInfo {
        name: plant.name(),
        about: plant.about(),
        scenario: plant.scenario(),
        plant: Which::Protocol(plant),
    });
    protocol.chain(recovery::Plant::ALL.iter().map(|&plant| PlantInfo {
        name: plant.name(),
        about: plant.about(),
        scenario: plant.scenario(),
        plant: Which::Recovery(plant),
    }))
}

/// Switches a bug on until it is dropped. One at a time in a process: whoever runs several, runs them one after the other.
#[derive(Debug)]
pub(crate) struct Switched;

impl Switched {
    pub(crate) fn on(plant: &PlantInfo) -> Switched {
        #[cfg(feature = "plant")]
        match plant.plant {
            Which::Protocol(plant) => keypact_protocol::switch_on(Some(plant)),
            Which::Recovery(plant) => recovery::switch_on(Some(plant)),
        }
        let _ = plant.plant;
        Switched
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        #[cfg(feature = "plant")]
        {
            keypact_protocol::switch_on(None);
            recovery::switch_on(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plants;

    #[test]
    fn every_plant_has_a_name_of_its_own_and_a_scenario() {
        let names: Vec<_> = plants().map(|info| info.name).collect();
        for (at, info) in plants().enumerate() {
            assert!(!names[..at].contains(&info.name), "{} stands twice", info.name);
            let known = crate::scenarios().any(|scenario| scenario.name == info.scenario);
            assert!(known, "{} is to be caught in scenario {}, which there is not", info.name, info.scenario);
        }
    }
}
