# A kube-apiserver 1.20 with etcd for the tests of apps/passt-kubevirt: the newest of which Debian has the whole source (bookworm), with the
# compiler that it was written for (bullseye). Nothing is installed. Building takes ten minutes and 3 GB, once; then it starts in seconds.
#
#   bash tools/debian/kube-apiserver.sh FOLDER      prints how to run the tests, and stays until it is interrupted
set -euo pipefail
mkdir -p "$1"
cd "$1"
folder=$PWD
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' | grep -v security | head -n 1)

fetch() {
  mkdir -p apt/lists/partial apt/archives/partial
  touch apt/status
  for release in bullseye bookworm; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
  done >apt/sources
  cat >apt/conf <<END
Dir::Etc::SourceList "$folder/apt/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$folder/apt/lists";
Dir::State::Status "$folder/apt/status";
Dir::Cache "$folder/apt";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Sandbox::User "";
END
  export APT_CONFIG=$folder/apt/conf
  apt-get -qq update
  apt-get -qq download golang-1.15-go golang-1.15-src etcd-server/bookworm
  apt-get -qq source --download-only kubernetes/bookworm
  unset APT_CONFIG
  for package in *.deb; do dpkg-deb -x "$package" root; done
  dpkg-source --no-check -x kubernetes_*.dsc kubernetes
}

build() {
  export GOROOT=$folder/root/usr/lib/go-1.15 GOPATH=$folder/go GOCACHE=$folder/cache CGO_ENABLED=0
  local here=$GOPATH/src/k8s.io/kubernetes vendor=vendor/k8s.io
  mkdir -p "${here%/*}"
  ln -sfn "$folder/kubernetes" "$here"
  cd "$here"
  # Descriptions of the kinds are made from their sources, and are not among them.
  "$GOROOT/bin/go" build -mod=vendor -o "$folder/openapi-gen" ./$vendor/kube-openapi/cmd/openapi-gen
  local kinds
  kinds=$(grep -rl --include='*.go' '+k8s:openapi-gen=' $vendor/ staging/src/k8s.io pkg cmd plugin |
    grep -vE 'code-generator|sample-apiserver|sample-controller|kube-openapi|/gengo/' |
    xargs -n 1 dirname | sed 's|^staging/src/|vendor/|; s|^|k8s.io/kubernetes/|' | sort -u | paste -sd ,)
  PATH=$GOROOT/bin:$PATH GO111MODULE=off "$folder/openapi-gen" -O zz_generated.openapi -i "$kinds" -r /dev/null \
    -p k8s.io/kubernetes/pkg/generated/openapi --go-header-file $vendor/code-generator/hack/boilerplate.go.txt
  local version=k8s.io/component-base/version
  "$GOROOT/bin/go" build -mod=vendor -o "$folder/kube-apiserver" \
    -ldflags "-X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20" ./cmd/kube-apiserver
  cd "$folder"
}

[ -d kubernetes ] || fetch
[ -x kube-apiserver ] || build

rm -rf state
mkdir -p state/certificates
openssl genrsa -out state/key 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,1,system:masters" >state/tokens
started=()
trap 'kill "${started[@]}"; wait' EXIT
root/usr/bin/etcd --data-dir state/etcd --listen-client-urls http://127.0.0.1:22379 --advertise-client-urls http://127.0.0.1:22379 \
  --listen-peer-urls http://127.0.0.1:22380 >state/etcd.log 2>&1 &
started+=($!)
./kube-apiserver --etcd-servers http://127.0.0.1:22379 --bind-address 127.0.0.1 --secure-port 26443 --cert-dir state/certificates \
  --token-auth-file state/tokens --authorization-mode RBAC --allow-privileged --disable-admission-plugins ServiceAccount \
  --service-cluster-ip-range 10.96.0.0/16 --endpoint-reconciler-type none --service-account-issuer https://kubernetes.default \
  --service-account-key-file state/key --service-account-signing-key-file state/key >state/kube-apiserver.log 2>&1 &
started+=($!)
until curl -sk -m 2 -H "Authorization: Bearer $token" https://127.0.0.1:26443/readyz | grep -q '^ok'; do
  kill -0 "${started[@]}" 2>/dev/null || { tail -n 5 state/*.log; exit 1; }
  sleep 0.5
done
echo "PASST_KUBE_API=https://127.0.0.1:26443 PASST_KUBE_TOKEN=$token npm test -- apps/passt-kubevirt"
wait -n
