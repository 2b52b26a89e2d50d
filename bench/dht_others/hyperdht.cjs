// N nodes of hyperdht (UDP) on loopback: node hyperdht.cjs NODES RUNS. Says {"provide_ms", "find_ms", "missed"} on its
// last line. To provide is to announce a topic to the 20 nearest, to find is to look it up until the first peer.

const createTestnet = require('hyperdht/testnet')
const DHT = require('hyperdht')
const { createHash } = require('node:crypto')

async function main () {
  const [count, runs] = process.argv.slice(2).map(Number)
  const { nodes } = await createTestnet(count)
  const provides = []
  const finds = []
  let missed = 0
  for (let run = 0; run < runs; run++) {
    const topic = createHash('sha256').update(`key ${run}`).digest()
    const one = run * 7 % count
    const two = (one + 1 + run % (count - 1)) % count
    const pair = DHT.keyPair()
    let begun = performance.now()
    await nodes[one].announce(topic, pair).finished()
    provides.push(performance.now() - begun)
    begun = performance.now()
    let found = 0
    for await (const answer of nodes[two].lookup(topic)) {
      found += answer.peers.length
      if (found > 0) {
        break
      }
    }
    finds.push(performance.now() - begun)
    missed += found === 0
  }
  process.stdout.write(`${JSON.stringify({ provide_ms: provides, find_ms: finds, missed })}\n`)
  process.exit(0)
}

main()
